"""Optional clean-up of the candidates: whole content words, one spelling each, and groups of variants.

Not in the paper. It helps where the text encoder is weak: an encoder that ignores case gives every slot of a
sentence to copies of one word, and one that has not seen a word whole matches it by its spelling.
"""

from collections.abc import Sequence
from typing import Protocol

from .expansion import Item

MIN_LETTERS = 3

# English function words: articles, pronouns, prepositions, conjunctions, auxiliaries and the commonest
# adverbs.
FUNCTION_WORDS = """
a about above across after again against all along also although am among an and another any anyone anything
are around as at away be became because been before behind being below beneath beside besides between beyond
both but by can cannot could did do does doing done down during each either else enough etc even ever every
everyone everything few for from further had has have having he hence her here hers herself him himself his
how however i if in indeed instead into is it its itself just least less let like many may me might mine
more moreover most much must my myself near neither never nevertheless no nobody none nor not nothing now of
off often on once one only onto or other others otherwise ought our ours ourselves out over own per perhaps
quite rather really same shall she should since so some someone something sometimes soon still such than
that the their theirs them themselves then there thereby therefore these they this those though through
throughout thus to together too toward towards under unless until up upon us usually very via was we well
were what whatever when whenever where whereas wherever whether which while who whoever whole whom whose why
will with within without would yet you your yours yourself yourselves
"""
STOP_WORDS = frozenset(FUNCTION_WORDS.split())

# After these letters the plural is -es (dishes, boxes, tomatoes); elsewhere the e belongs to the word
# (horses).
SIBILANTS = ("s", "x", "z", "ch", "sh", "o")


class WholeWordEncoder(Protocol):
    """The part of a joint encoder that the clean-up needs."""

    def whole_words(self, texts: Sequence[str]) -> list[bool]:
        """Per text, whether each of its words is one whole entry of the text encoder's vocabulary."""


def clean_items(items: Sequence[Item], encoder: WholeWordEncoder) -> list[Item]:
    """Keeps whole content words and one spelling of each.

    An item stays where every word is one whole entry of the text encoder's vocabulary, consists of letters,
    and the first and the last word have at least 3 letters and are no stop words. Of items that differ only
    in case the lower-case one stays, or the first where there is none.

    Args:
        items: The candidates, texts distinct.
        encoder: Knows which words are whole.

    Returns:
        What stays, in the order in which each word first appeared.
    """
    whole = encoder.whole_words([item.text for item in items])
    kept = [item for item, is_whole in zip(items, whole, strict=True) if is_whole and has_content(item.text)]
    return fold_case(kept)


def has_content(text: str) -> bool:
    """Whether `text` is made of letters only and both begins and ends with a content word."""
    words = text.split()
    if not words or not all(word.isalpha() for word in words):
        return False
    return all(len(word) >= MIN_LETTERS and word.lower() not in STOP_WORDS for word in (words[0], words[-1]))


def fold_case(items: Sequence[Item]) -> list[Item]:
    """Merges items that differ only in case, in favour of the lower-case spelling."""
    spellings: dict[str, Item] = {}
    for item in items:
        folded = item.text.lower()
        if folded not in spellings or item.text == folded:
            spellings[folded] = item
    return list(spellings.values())


def word_groups(words: Sequence[str]) -> list[int]:
    """Numbers the words so that copies in case and number (cat, Cat, cats) share a number.

    A model that picks at most one word of each group does not spend its places on variants of one word.

    Args:
        words: The entries of a codebook, N of them; of several words the last one is looked at.

    Returns:
        N group numbers from 0, in the order of first appearance.
    """
    known = {word.lower() for word in words}
    numbers: dict[str, int] = {}
    return [numbers.setdefault(_base_form(word.lower(), known), len(numbers)) for word in words]


def _base_form(word: str, known: set[str]) -> str:
    """The singular of `word` if that is among `known`, else the word itself."""
    for singular in _possible_singulars(word):
        if singular in known:
            return singular
    return word


def _possible_singulars(word: str) -> list[str]:
    if not word.endswith("s") or word.endswith("ss"):
        return []
    singulars = [word[:-1]]
    if word.endswith("ies"):
        singulars.append(word[:-3] + "y")
    elif word.endswith("es") and word[:-2].endswith(SIBILANTS):
        singulars.append(word[:-2])
    # Two letters are no noun with a plural: "his" is not many "hi".
    return [singular for singular in singulars if len(singular.split()[-1]) >= MIN_LETTERS]
