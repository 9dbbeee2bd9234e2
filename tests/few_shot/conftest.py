"""A made-up episode."""

import pytest

from visual_sentence.few_shot import Example


@pytest.fixture(scope="session")
def class_names():
    """Labels of different lengths, one of them the beginning of another."""
    return ["goldfish", "French bulldog", "dog", "dog sled"]


@pytest.fixture(scope="session")
def support(class_names):
    words = [("fishes", "gold"), ("canine", "breeds", "puppy"), ("puppy",), ("winter", "snow", "canine")]
    return [Example(image, label) for image, label in zip(words, class_names, strict=True)]


@pytest.fixture(scope="session")
def queries():
    """Queries of different lengths that begin differently."""
    return [
        ("aquarium", "gold"),
        ("snow",),
        ("canine", "puppy", "breeds", "fishes"),
        ("gold", "winter", "snow"),
    ]
