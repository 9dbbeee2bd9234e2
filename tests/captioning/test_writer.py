"""What is made of what a language model writes; and with a real tiny one, the same texts however they are asked for."""

import pytest

from visual_sentence.captioning import AnswerExample, AnswerPrompt, CaptionExample, CaptionPrompt, InContextWriter
from visual_sentence.captioning.writer import comparable, first_word, one_line
from visual_sentence.completion import LocalCompletions
from visual_sentence.errors import UserError
from visual_sentence.language import LanguageModel

EXAMPLES = [CaptionExample(("cat", "sofa"), "A cat sleeps."), CaptionExample(("dog",), "Two dogs, running")]
ANSWERED = [AnswerExample(("cat", "sofa"), "What animal is it?", "cat"), AnswerExample(("dog",), "Is it a cat?", "no")]
QUERIES = [("red", "bus"), ("moon",), ("car", "tree", "sun")]


def test_captions_end_at_the_full_stop_and_copies_are_marked(scripted):
    texts = iter([" A red bus. Words: cat", "  two DOGS running .", "  a moon\n\nWords", "", "."])
    writer = InContextWriter(scripted(lambda prompt: next(texts)))
    found = writer.caption([("bus",)] * 5, [EXAMPLES] * 5)
    assert [caption.text for caption in found] == ["A red bus", "two DOGS running", "a moon", "", ""]
    assert [caption.copied for caption in found] == [False, True, False, False, False]


def test_a_copy_is_one_of_an_example_that_was_shown(scripted):
    writer = InContextWriter(scripted(lambda prompt: " a cat  sleeps!."))
    found = writer.caption([("bus",), ("bus",)], [EXAMPLES[:1], EXAMPLES[1:]])
    assert [caption.copied for caption in found] == [True, False]


def test_answers_are_their_first_word(scripted):
    texts = iter([" Cat, on a sofa\n\nWords", ' "yes".', "", " ... "])
    writer = InContextWriter(scripted(lambda prompt: next(texts)))
    found = writer.answer([("cat",)] * 4, ["What?"] * 4, [ANSWERED] * 4)
    assert [reply.answer for reply in found] == ["Cat", "yes", "", ""]
    assert [reply.text for reply in found] == ["Cat, on a sofa", '"yes".', "", "..."]


def test_the_model_reads_the_prompt(scripted):
    model = scripted(lambda prompt: "")
    InContextWriter(model).caption(QUERIES, [EXAMPLES, EXAMPLES[:1], EXAMPLES[::-1]], CaptionPrompt("paper"))
    InContextWriter(model).answer(QUERIES[:1], ["Why?"], [ANSWERED], AnswerPrompt("paper"))
    assert model.prompts == [
        CaptionPrompt("paper").render(EXAMPLES, QUERIES[0]),
        CaptionPrompt("paper").render(EXAMPLES[:1], QUERIES[1]),
        CaptionPrompt("paper").render(EXAMPLES[::-1], QUERIES[2]),
        AnswerPrompt("paper").render(ANSWERED, QUERIES[0], "Why?"),
    ]


@pytest.mark.parametrize("style", ["plain", "paper"])
def test_batches_and_caches_change_nothing(style, llama, bpe_tokenizer):
    language_model = LanguageModel(llama, bpe_tokenizer, "tiny")
    plain = InContextWriter(LocalCompletions(language_model, use_cache=False), max_new_tokens=6)
    fast = InContextWriter(LocalCompletions(language_model, batch_size=2), max_new_tokens=6)
    shown, prompt = [EXAMPLES] * 3, CaptionPrompt(style)
    expected = plain.caption(QUERIES, shown, prompt)
    assert fast.caption(QUERIES, shown, prompt) == expected
    assert [fast.caption([query], [EXAMPLES], prompt)[0] for query in QUERIES] == expected
    assert len({caption.text for caption in expected}) > 1
    asked = (QUERIES, ["Who?", "Is it a car?", "What?"], [ANSWERED] * 3, AnswerPrompt(style))
    assert fast.answer(*asked) == plain.answer(*asked)


def test_max_new_tokens_is_heeded(llama, bpe_tokenizer):
    model = LocalCompletions(LanguageModel(llama, bpe_tokenizer, "tiny"))
    short = InContextWriter(model, max_new_tokens=1).answer(QUERIES, ["Who?"] * 3, [ANSWERED] * 3)
    long = InContextWriter(model, max_new_tokens=9).answer(QUERIES, ["Who?"] * 3, [ANSWERED] * 3)
    assert all(b.text.startswith(a.text) for a, b in zip(short, long, strict=True))
    assert sum(map(len, (b.text for b in long))) > sum(map(len, (a.text for a in short)))


def test_a_prompt_that_is_too_long_says_how_many_examples_fit(llama, bpe_tokenizer):
    model = LocalCompletions(LanguageModel(llama, bpe_tokenizer, "tiny llama"))
    shown = EXAMPLES * 60  # far more than 1,024 positions hold
    prompt = CaptionPrompt()
    fitting = [
        count
        for count in range(1, len(shown))
        if len(bpe_tokenizer(prompt.render(shown[:count], QUERIES[0]))["input_ids"]) + 40 <= 1024
    ]
    with pytest.raises(UserError, match=rf"tiny llama has 1024: {fitting[-1]} examples fit, so show no more"):
        InContextWriter(model).caption(QUERIES[:1], [shown], prompt)
    InContextWriter(model).caption(QUERIES[:1], [shown[: fitting[-1]]], prompt)
    with pytest.raises(UserError, match="not one example fits"):
        InContextWriter(model).caption([("dog",) * 900], [shown], prompt)


def test_wrong_use_is_named(scripted):
    writer = InContextWriter(scripted(lambda prompt: ""))
    for call, message in [
        (lambda: writer.caption(QUERIES, [EXAMPLES]), "examples for 1 pictures, but 3 pictures"),
        (lambda: writer.caption([()], [EXAMPLES]), "Picture 1 has no words"),
        (lambda: writer.caption(QUERIES[:2], [EXAMPLES, []]), "Picture 2 has no examples"),
        (lambda: writer.answer(QUERIES, ["Who?"], [ANSWERED] * 3), "1 questions for 3 pictures"),
        (lambda: writer.answer(QUERIES[:1], ["  "], [ANSWERED]), "A question is empty"),
    ]:
        with pytest.raises(UserError, match=message):
            call()
    assert InContextWriter(scripted(lambda prompt: "")).caption([], []) == []


def test_texts_are_compared_without_case_spaces_and_punctuation():
    assert comparable(" A  Cat,\tsleeps!") == comparable("a cat sleeps") == "a cat sleeps"
    assert comparable("Straße") == comparable("STRASSE")
    assert comparable("a cats leeps") != comparable("a cat sleeps")
    assert first_word("  (blue-green), maybe") == "blue-green"
    assert one_line(" \t a  b \n c") == "a b" and one_line("\n c") == ""
