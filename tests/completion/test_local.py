"""Completions of a model in this process against plain loops over whole texts."""

import pytest
import torch

from visual_sentence import LanguageModel, UserError
from visual_sentence.completion import LocalCompletions, PromptTooLongError

PROMPTS = ["Words: gold, fishes\nThe photo shows:", "Words: snow\nThe photo shows:", "Words: snow\nThe photo "]
ANSWERS = [" goldfish", " dog sled", " dog"]


def greedy_ids(model, ids: list[int], count: int, end: int) -> list[int]:
    """Token after token with the whole text, until the end token."""
    written = []
    for _ in range(count):
        with torch.inference_mode():
            token = int(model(input_ids=torch.tensor([ids + written])).logits[0, -1].argmax())
        if token == end:
            break
        written.append(token)
    return written


@pytest.fixture
def script(llama, bpe_tokenizer):
    """Makes the model want to write a text, whatever it is asked; only without a cache."""
    hooks = []

    def want(text: str) -> None:
        steps = iter(bpe_tokenizer(text)["input_ids"])

        def push(module, args, output):
            output.logits[:, -1, next(steps, bpe_tokenizer.eos_token_id)] = 1e4
            return output

        hooks.append(llama.register_forward_hook(push))

    yield want
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("model_name", ["llama", "gpt2", "mistral"])
def test_completions_are_the_greedy_ones(request, model_name, use_cache, bpe_tokenizer):
    model = request.getfixturevalue(model_name)
    expected = []
    for prompt in PROMPTS:
        ids = bpe_tokenizer(prompt)["input_ids"]
        written = greedy_ids(model, ids, 6, bpe_tokenizer.eos_token_id)
        expected.append(bpe_tokenizer.decode(ids + written)[len(prompt) :])
    completions = LocalCompletions(LanguageModel(model, bpe_tokenizer, "tiny"), batch_size=2, use_cache=use_cache)
    assert completions.complete(PROMPTS, 6) == expected
    assert completions.complete(PROMPTS[:1], 6) == expected[:1]


@pytest.mark.parametrize(
    ("written", "stop", "text"),
    [
        (" dog sled.\nWords", "\n", " dog sled."),
        (" dog sled.\nWords", None, " dog sled.\nWords"),
        (" The photo shows", "hoto", " The p"),
        (" dog ", "\n", " dog "),
        ("\ndog", "\n", ""),
    ],
)
def test_a_completion_is_cut_before_the_stop_and_not_stripped(llama, bpe_tokenizer, script, written, stop, text):
    script(written)
    completions = LocalCompletions(LanguageModel(llama, bpe_tokenizer, "tiny"), use_cache=False)
    assert completions.complete(["Words: snow\n"], 20, stop) == [text]


def test_the_leading_space_of_sentencepiece_stays(llama, metaspace_tokenizer):
    completions = LocalCompletions(LanguageModel(llama, metaspace_tokenizer, "tiny"))
    ids = metaspace_tokenizer(PROMPTS[0])["input_ids"]
    token = next(token for text, token in metaspace_tokenizer.get_vocab().items() if text.startswith("▁sh"))
    written = metaspace_tokenizer.convert_ids_to_tokens(token).replace("▁", " ")
    assert metaspace_tokenizer.decode([token]) == written[1:]  # alone, a token is the beginning of a text

    def push(module, args, output):
        output.logits[:, -1, token] = 1e4
        return output

    hook = llama.register_forward_hook(push)
    try:
        assert completions.complete([PROMPTS[0]], 2) == [written * 2]
    finally:
        hook.remove()
    assert completions.count_tokens(PROMPTS[0]) == len(ids)


def test_log_likelihoods_are_those_of_the_whole_texts(llama, bpe_tokenizer, local):
    expected = torch.empty(len(PROMPTS), len(ANSWERS))
    for row, prompt in enumerate(PROMPTS):
        for column, answer in enumerate(ANSWERS):
            answer = answer.strip() if prompt.endswith(" ") else answer
            ids = bpe_tokenizer(prompt + answer)["input_ids"]
            # a prompt's closing space is part of the answer's first token
            start = len(bpe_tokenizer(prompt.rstrip(" "))["input_ids"])
            with torch.inference_mode():
                log_probs = llama(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            expected[row, column] = sum(log_probs[at - 1, ids[at]] for at in range(start, len(ids)))
    plain = LocalCompletions(local.language_model, use_cache=False)
    for completions in (local, plain):
        scores = torch.cat(
            [
                completions.log_likelihoods(PROMPTS[:2], ANSWERS),
                completions.log_likelihoods(PROMPTS[2:], [answer.strip() for answer in ANSWERS]),
            ]
        )
        assert scores.dtype == torch.float32
        assert torch.allclose(scores, expected, atol=1e-4)


def test_nothing_asked_nothing_answered(local):
    assert local.complete([], 3) == []
    assert local.complete_with_one_of([], ANSWERS, "trie") == []
    assert local.log_likelihoods([], ANSWERS).shape == (0, 3)
    assert local.log_likelihoods(PROMPTS, []).shape == (3, 0)


@pytest.mark.parametrize("constraint", ["trie", "position-mask"])
def test_only_answers_are_written_under_a_constraint(local, constraint):
    for index, text in local.complete_with_one_of(PROMPTS[:2], ANSWERS, constraint):
        assert 0 <= index < len(ANSWERS)
        assert constraint == "position-mask" or ANSWERS[index].startswith(text)


def test_another_keeps_the_first_ones_prefix(local, llama):
    fed = []
    hook = llama.register_forward_pre_hook(
        lambda module, args, kwargs: fed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        other = local.another()
        first = local.log_likelihoods(PROMPTS[:2], ANSWERS)
        other.log_likelihoods([prompt[::-1] for prompt in PROMPTS], ANSWERS)
        fed.clear()
        assert torch.equal(local.log_likelihoods(PROMPTS[:2], ANSWERS), first)
    finally:
        hook.remove()
    shared = local.count_tokens("Words:")
    assert max(fed) < 2 * (local.count_tokens(PROMPTS[0]) - shared) + 1  # suffixes only: the prefix was still there
    assert (other.name, other.context_length, other.batch_size) == ("tiny", 1024, 2)


def test_prompts_beyond_the_context_are_refused(local):
    long = "snow " * 2000
    for ask in (lambda: local.complete([long], 5), lambda: local.log_likelihoods([long], ANSWERS)):
        with pytest.raises(PromptTooLongError, match=r"needs \d+ positions, the model has 1024: show fewer") as refusal:
            ask()
        assert refusal.value.needed > refusal.value.limit == 1024
    room = 1024 - local.count_tokens(PROMPTS[0])
    with pytest.raises(PromptTooLongError):
        local.complete(PROMPTS[:1], room + 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, None), "max_new_tokens must be at least 1, got 0"), ((5, ""), "An empty stop would end every")],
)
def test_impossible_requests_are_refused(local, arguments, message):
    with pytest.raises(UserError, match=message):
        local.complete(PROMPTS, *arguments)


def test_a_batch_has_at_least_one_row(local):
    with pytest.raises(UserError, match="batch_size must be at least 1, got 0"):
        LocalCompletions(local.language_model, batch_size=0)
