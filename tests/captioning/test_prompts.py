"""The texts themselves, letter by letter."""

import pytest

from visual_sentence.captioning import AnswerExample, AnswerPrompt, CaptionExample, CaptionPrompt
from visual_sentence.errors import UserError

CAPTIONED = [CaptionExample(("cat", "sofa"), "A cat sleeps."), CaptionExample(("dog",), " A dog\nruns ")]
ANSWERED = [AnswerExample(("cat", "sofa"), "What animal is it?", "cat"), AnswerExample(("dog",), "Is it a cat", "no.")]


def test_the_papers_caption_prompt():
    assert CaptionPrompt("paper").render(CAPTIONED, ("red", "bus")) == (
        "Generate a caption sentence based on words describing an image. Input: cat sofa, output: A cat sleeps. "
        "Input: dog, output: A dog runs. Input: red bus, output:"
    )
    assert CaptionPrompt("paper").stop == "."


def test_the_papers_answer_prompt():
    assert AnswerPrompt("paper").render(ANSWERED, ("red", "bus"), "What is it?") == (
        "Answer the question with a single word based on the condition. Condition: cat sofa. "
        "Question: What animal is it?. Answer: cat. Condition: dog. Question: Is it a cat. Answer: no. "
        "Condition: red bus. Question: What is it?. Answer:"
    )
    assert AnswerPrompt("paper").stop == "."


def test_the_plain_prompts():
    assert CaptionPrompt().render(CAPTIONED, ("red", "bus")) == (
        "Each line has the words of a photo and then its caption.\n"
        "cat, sofa -> A cat sleeps.\ndog -> A dog runs.\nred, bus ->"
    )
    assert AnswerPrompt().render(ANSWERED, ("red", "bus"), "What is it?") == (
        "Each line has the words of a photo, a question about it and the answer in a single word.\n"
        "cat, sofa -> What animal is it? -> cat\ndog -> Is it a cat -> no\nred, bus -> What is it? ->"
    )
    assert CaptionPrompt().stop == "." and AnswerPrompt().stop == "\n"


def test_a_line_break_in_a_word_does_not_end_the_line():
    words = ("French\nbulldog", " bus ")
    assert CaptionPrompt("paper").render([], words).endswith("Input: French bulldog bus, output:")
    assert AnswerPrompt("plain").render([], words, "a\nb").endswith("word.\nFrench bulldog, bus -> a b ->")


def test_prompts_of_the_same_examples_share_their_beginning():
    for prompt in (CaptionPrompt("plain"), CaptionPrompt("paper")):
        first, second = prompt.render(CAPTIONED, ("red",)), prompt.render(CAPTIONED, ("sun",))
        assert first.split("red")[0] == second.split("sun")[0]


def test_unknown_styles_are_named():
    for kind in (CaptionPrompt, AnswerPrompt):
        with pytest.raises(UserError, match="no prompt style 'poem' for captions and answers: use plain or paper"):
            kind("poem")
