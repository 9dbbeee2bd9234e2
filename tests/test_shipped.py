"""The models that ship: found by name, loaded where no model is named, and nothing else goes by that name."""

import numpy as np
import pytest
from PIL import Image
from transformers import pipeline

from visual_sentence import UserError
from visual_sentence.data import Shapes
from visual_sentence.references import resolve
from visual_sentence.shipped import DEFAULT, SHIPPED, has_weights, shipped_folder, shipped_model


@pytest.mark.parametrize("kind", SHIPPED)
def test_each_kind_has_a_folder_with_weights(kind):
    folder = shipped_model(kind)
    assert has_weights(folder) and folder.name == SHIPPED[kind] and resolve(DEFAULT, kind) == str(folder)


def test_other_kinds_have_none():
    with pytest.raises(UserError, match=r"No language-model ships with visual-sentence.*name a folder or a Hub id"):
        resolve(DEFAULT, "language-model")


def test_a_package_without_weights_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("visual_sentence.shipped.files", lambda package: tmp_path)
    (tmp_path / SHIPPED["v2l"]).mkdir()
    with pytest.raises(UserError, match=r"has no weights in .*v2l-small: install the package anew"):
        shipped_model("v2l")


def test_no_path_of_a_machine_is_in_what_ships():
    for kind in SHIPPED:
        for file in shipped_folder(kind).glob("*.json"):
            text = file.read_text(encoding="utf-8")
            assert "_name_or_path" not in text and "auto_map" not in text


def test_pictures_are_written_as_words_where_no_model_is_named():
    """Shapes that no training saw come back far nearer than their mean colour."""
    rebuild = pipeline("image-reconstruction", device="cpu")
    for example in Shapes(places=range(30_000, 30_004)):
        found = rebuild(example.image)
        original, image = (np.asarray(found[name], float) for name in ("original", "image"))
        error, spread = ((original - image) ** 2).mean(), original.var(axis=(0, 1)).mean()
        assert error < spread / 6
        assert np.asarray(found["image_tokens"]).shape == (16, 16) and isinstance(found["image"], Image.Image)
        assert all(isinstance(word, str) for row in found["words"] for word in row)
