"""Prompts in ids against prompts in text, and what is read for a step."""

import pytest
from transformers import PreTrainedTokenizerFast

from visual_sentence import UserError
from visual_sentence.restoration.prompts import VARIANTS, Pair, PromptWriter
from visual_sentence.restoration.tasks import TASKS

PAIRS = [Pair((300, 301), (302,)), Pair((303,), (304, 305))]


@pytest.fixture(params=["bpe", "metaspace"])
def tokenizer(request) -> PreTrainedTokenizerFast:
    return request.getfixturevalue(f"{request.param}_tokenizer")


def plain(tokenizer, texts_and_ids) -> tuple[int, ...]:
    """Fixed pieces tokenized one by one, ids put between them."""
    return tuple(
        token
        for part in texts_and_ids
        for token in (tokenizer(part, add_special_tokens=False)["input_ids"] if isinstance(part, str) else part)
    )


def test_the_published_codes_prompt(tokenizer):
    writer = PromptWriter(tokenizer, "published-code", step=2)
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    instruction = "Learning a new language and predict the 2 tokens following the examples.\n"
    one = ("###\nInput: < ", (300, 301), " >\nOutput: ", (302,))
    two = ("###\nInput: < ", (303,), " >\nOutput: ", (304, 305))
    query = ("###\nInput: < ", (306,), " >\nOutput: ")
    expected = plain(tokenizer, (begin, instruction, *one, *two, *query))
    assert (*writer.shared(PAIRS), *writer.rest((), (306,))) == expected
    assert (*writer.shared(()), *writer.rest(PAIRS, (306,))) == expected


def test_the_papers_prompt(tokenizer):
    writer = PromptWriter(tokenizer, "paper", step=3)
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    instruction = "Learn a new language and predict 3 tokens following the examples."
    one = (" Input:", (300, 301), ", output:", (302,), ".")
    expected = plain(tokenizer, (begin, instruction, *one, " Input:", (306,), ", output:"))
    assert (*writer.shared(PAIRS[:1]), *writer.rest((), (306,))) == expected


def test_a_tokenizers_end_token_does_not_end_the_prompt(metaspace_tokenizer):
    class Ending:
        eos_token_id = 2

        def __call__(self, text, add_special_tokens=True):
            ids = metaspace_tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
            return {"input_ids": [*ids, 2] if add_special_tokens else ids}

    assert PromptWriter(Ending()).shared(PAIRS) == PromptWriter(metaspace_tokenizer).shared(PAIRS)


def test_what_is_read_for_a_step(bpe_tokenizer):
    published = PromptWriter(bpe_tokenizer, "published-code", condition=4)
    paper = PromptWriter(bpe_tokenizer, "paper", condition=4)
    for task in TASKS:
        before = task in ("inpainting", "outpainting")
        for step, preceding in (((8, 9), [4, 5, 6, 7]), ((2, 3), [0, 1]), ((0,), [])):
            own = [] if before else list(step)
            assert list(paper.read_positions(task, step)) == preceding + own
            assert list(published.read_positions(task, step)) == (preceding if before else own)


def test_mistakes_are_named(bpe_tokenizer):
    for options, message in (
        ({"variant": "poem"}, "no prompt variant 'poem': choose one of paper, published-code"),
        ({"condition": 0}, "n is a number of tokens, found 0"),
        ({"step": -1}, "m is a number of tokens, found -1"),
    ):
        with pytest.raises(UserError, match=message):
            PromptWriter(bpe_tokenizer, **options)
    assert set(VARIANTS) == {"paper", "published-code"}
