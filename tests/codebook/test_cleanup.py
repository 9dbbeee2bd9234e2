import pytest

from visual_sentence.codebook import STOP_WORDS, Item, clean_items, word_groups
from visual_sentence.codebook.cleanup import has_content


def item(text):
    return Item(text, (1,), "subword")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("cat", True),
        ("bird of prey", True),
        ("ox", False),
        ("The", False),
        ("cat in the", False),
        ("of cats", False),
        ("cat,", False),
        ("cat's", False),
        ("747", False),
        ("", False),
    ],
)
def test_content(text, kept):
    assert has_content(text) is kept


def test_clean_items_keeps_whole_words_in_one_spelling(encoder):
    texts = ["Cat", "CAT", "retriever", "cat", "Dog", "DOG", "old dog", "near the", "bird", "ca"]
    assert [kept.text for kept in clean_items([item(text) for text in texts], encoder)] == [
        "cat",
        "Dog",
        "old dog",
        "bird",
    ]


def test_word_groups():
    groups = {
        "cat": 0,
        "Cats": 0,
        "berries": 1,
        "dog": 2,
        "CAT": 0,
        "berry": 1,
        "dishes": 3,
        "dish": 3,
        "horses": 4,
        "horse": 4,
        "glass": 5,
        "glas": 6,
        "buses": 7,
        "bus": 7,
        "sports car": 8,
        "sports cars": 8,
        "his": 9,
        "hi": 10,
        "species": 11,
        "tomatoes": 12,
        "tomato": 12,
    }
    assert word_groups(list(groups)) == list(groups.values())


def test_a_plural_alone_has_its_own_group():
    assert word_groups(["cats", "dogs"]) == [0, 1]


def test_stop_words_are_lower_case_letters():
    assert all(word.isalpha() and word.islower() for word in STOP_WORDS)
