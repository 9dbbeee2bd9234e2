import pytest

from visual_sentence.errors import UserError
from visual_sentence.few_shot import PROMPT_STYLES, ClassificationPrompt, Example

SUPPORT = [Example(("wolf", "canine"), "Rock beauty"), Example(("reef",), "French bulldog")]
NAMES = ["Rock beauty", "French bulldog"]
QUERY = ("pet", "hair")


def test_plain():
    prompt = ClassificationPrompt()
    assert prompt.render(SUPPORT, QUERY, NAMES) == (
        "The words describe a photo. The photo shows one of: Rock beauty, French bulldog.\n\n"
        "Words: wolf, canine\nThe photo shows: Rock beauty\n\n"
        "Words: reef\nThe photo shows: French bulldog\n\n"
        "Words: pet, hair\nThe photo shows:"
    )
    assert prompt.answer("Rock beauty") == " Rock beauty"
    assert (prompt.stop, prompt.ending) == ("\n", "\n\n")


def test_paper():
    prompt = ClassificationPrompt("paper")
    assert prompt.render(SUPPORT, QUERY, NAMES) == (
        "For each of the following input-output pairs, output is one of "
        '["Rock beauty", "French bulldog"]. '
        "Input: wolf canine, output: Rock beauty. "
        "Input: reef, output: French bulldog. "
        "Input: pet hair, output:"
    )
    assert prompt.answer("Rock beauty") == " Rock beauty"
    assert (prompt.stop, prompt.ending) == (".", ".")


def test_published_code():
    prompt = ClassificationPrompt("published-code")
    assert prompt.render(SUPPORT, QUERY, NAMES) == (
        "For each of the following input output pairs, output is one of "
        "['French_bulldog' or ['Rock_beauty']\n"
        "###\nInput: < wolfcanine >\nOutput: Rock_beauty"
        "###\nInput: < reef >\nOutput: French_bulldog"
        "###\nInput: < pethair >\nOutput: "
    )
    assert prompt.answer("Rock beauty") == "Rock_beauty"
    assert (prompt.stop, prompt.ending) == ("###", "###")


@pytest.mark.parametrize("style", PROMPT_STYLES)
def test_without_induction_the_text_begins_with_the_first_example(style):
    with_induction = ClassificationPrompt(style).render(SUPPORT, QUERY, NAMES)
    without = ClassificationPrompt(style, induction=False).render(SUPPORT, QUERY, NAMES)
    assert with_induction.endswith(without)
    assert without.startswith(("Words: wolf", "Input: wolf", "###\nInput: < wolf"))


@pytest.mark.parametrize("style", PROMPT_STYLES)
def test_repetitions_write_the_whole_support_set_again(style):
    once = ClassificationPrompt(style, induction=False)
    thrice = ClassificationPrompt(style, induction=False, repetitions=2)
    query_only = once.render((), QUERY, NAMES)
    examples = once.render(SUPPORT, QUERY, NAMES).removesuffix(query_only)
    assert thrice.render(SUPPORT, QUERY, NAMES) == examples * 3 + query_only


def test_content_free_query_stands_in_place_of_the_words():
    prompt = ClassificationPrompt(induction=False)
    assert prompt.render_content_free((), NAMES) == "Words: N/A\nThe photo shows:"


def test_line_breaks_inside_words_do_not_end_the_question():
    prompt = ClassificationPrompt(induction=False)
    assert prompt.render((), (" two\nlines ", "pet"), NAMES) == "Words: two lines, pet\nThe photo shows:"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"style": "fancy"}, "no prompt style 'fancy': use one of plain, paper, published-code"),
        ({"induction": "no"}, "induction must be True or False, got 'no'"),
        ({"repetitions": -1}, "repetitions must be a whole number from 0 upwards, got -1"),
        ({"repetitions": 1.5}, "repetitions must be a whole number from 0 upwards, got 1.5"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        ClassificationPrompt(**settings)
