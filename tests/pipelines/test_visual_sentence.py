"""`pipeline("visual-sentence")`: inputs of every kind, what is kept between calls, and how it travels."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from visual_sentence import UserError
from visual_sentence.modeling import VQGANConfig, VQGANImageProcessor, VQGANModel
from visual_sentence.pipelines.visual_sentence import SENTENCE_TASK, VisualSentencePipeline
from visual_sentence.sentence_completion.completer import Question
from visual_sentence.shipped import has_weights, shipped_folder

from ..sentence_completion.conftest import (  # noqa: F401  (fixtures)
    VQGAN,
    blob,
    make_simlvm,
    make_simlvm_processor,
    noise,
    simlvm_folder,
)


@pytest.fixture
def complete(make_simlvm, make_simlvm_processor) -> VisualSentencePipeline:  # noqa: F811
    return VisualSentencePipeline(make_simlvm(), processor=make_simlvm_processor(), device="cpu")


@pytest.fixture
def pairs() -> list[tuple[Image.Image, Image.Image]]:
    return [(noise(place), blob(place)) for place in range(2)]


def same(one: dict, other: dict) -> bool:
    """Whether two answers are equal, but for the last digits of their likelihood."""
    return (
        list(one) == list(other)
        and one["image_tokens"] == other["image_tokens"]
        and np.array_equal(np.asarray(one["image"]), np.asarray(other["image"]))
        and np.array_equal(one["mask"], other["mask"])
        and one["log_likelihood"] == pytest.approx(other["log_likelihood"], abs=1e-3)
    )


def test_one_query(complete, pairs):
    found = complete(noise(9, (30, 24)), pairs=pairs)
    (answer,) = complete.completer.complete([Question(pairs, noise(9, (30, 24)))], output="auto")
    assert list(found) == ["image", "mask", "label_map", "palette", "log_likelihood", "image_tokens"]
    assert found["image"].size == (30, 24) and found["mask"].shape == (24, 30) and found["label_map"] is None
    assert found["image_tokens"] == answer.image_tokens.tolist() and np.array_equal(found["mask"], answer.mask)
    assert found["palette"] == [(0, 0, 0), (255, 255, 255)]
    assert complete(noise(9), pairs=pairs, output="image")["mask"] is None


def test_lists_batches_and_streams_agree(complete, pairs):
    queries = [noise(place) for place in range(20, 25)]
    single = [complete(query, pairs=pairs) for query in queries]
    for found in (
        complete(queries, pairs=pairs, batch_size=3),
        list(complete(iter(queries), pairs=pairs, batch_size=2)),
        complete([{"query": query, "pairs": pairs} for query in queries], batch_size=5),
    ):
        assert all(same(one, other) for one, other in zip(found, single, strict=True))


def test_pictures_come_in_every_form(complete, pairs, tmp_path):
    for place, (image, target) in enumerate(pairs):
        image.save(tmp_path / f"{place}.png")
        target.save(tmp_path / f"{place}_mask.png")
    files = [(str(tmp_path / f"{place}.png"), tmp_path / f"{place}_mask.png") for place in range(2)]
    arrays = [(np.asarray(image), {"image": target}) for image, target in pairs]
    expected = complete(noise(9), pairs=pairs)
    assert same(complete(np.asarray(noise(9)), pairs=files), expected)
    assert same(complete({"image": noise(9)}, pairs=arrays), expected)


def test_the_cache_of_the_last_pairs_is_kept(complete, pairs, monkeypatch):
    read, calls = complete.model.read, []
    monkeypatch.setattr(complete.model, "read", lambda *given: calls.append(1) or read(*given))
    complete([noise(1), noise(2)], pairs=pairs)
    complete(noise(3), pairs=[(one.copy(), two.copy()) for one, two in pairs])
    assert len(calls) == 1
    complete(noise(3), pairs=pairs[:1])
    assert len(calls) == 2


def test_frames_and_partial_answers(complete, pairs):
    sequence = complete({"frames": [noise(1), noise(2, (30, 20))], "num_images": 2})
    expected = complete.completer.go_on([[noise(1), noise(2, (30, 20))]], 2)[0]
    assert [picture.size for picture in sequence["images"]] == [(30, 20)] * 2
    assert sequence["image_tokens"] == expected[0].image_tokens.tolist() and sequence["mask"] is None
    assert len(complete({"frames": [noise(1)]}, num_images=3)["images"]) == 3
    tokens = complete.completer.reconstruct([noise(5)])[0].image_tokens.tolist()
    for found in (
        complete({"query": noise(1), "pairs": pairs, "partial": noise(5), "known_rows": [0, 3]}),
        complete(noise(1), pairs=pairs, partial=noise(5), known_rows=[0, 3]),
    ):
        assert [found["image_tokens"][row] for row in (0, 3)] == [tokens[row] for row in (0, 3)]


def test_draws(complete, pairs):
    draw = {"pairs": pairs, "do_sample": True, "temperature": 2.0, "num_candidates": 3}
    assert same(complete(noise(1), seed=1, **draw), complete(noise(1), seed=1, **draw))
    assert not same(complete(noise(1), seed=1, **draw), complete(noise(1), seed=2, **draw))


def test_label_maps(complete):
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], dtype=np.uint8)
    pairs = [(noise(1), Image.fromarray(colours[np.asarray(noise(2))[..., 0] % 3]))]
    found = complete(noise(3, (24, 30)), pairs=pairs)
    assert found["label_map"].shape == (30, 24) and found["mask"] is None
    assert set(np.unique(found["label_map"])) <= {0, 1, 2} and found["palette"][0] == (0, 0, 0)
    turned = complete(noise(3, (24, 30)), pairs=pairs, palette=found["palette"][::-1])
    same_class = turned["label_map"] == 2 - found["label_map"]
    assert same_class.mean() > 0.99  # but for pixels as near to one colour as to another


@pytest.mark.parametrize(
    ("inputs", "options", "line"),
    [
        (None, {}, "needs pairs: pass pairs="),
        (None, {"pairs": []}, "pairs is empty"),
        (None, {"pairs": "a.png"}, "pairs is a list of"),
        (None, {"pairs": [("a.png",)]}, "Pair 1 is no pair"),
        (None, {"pairs": 4}, "3 pairs fit, you gave 4"),
        (None, {"pairs": 1, "num_images": 2}, "a query has one answer"),
        (None, {"pairs": 1, "temperature": 0.5}, "pass do_sample=True"),
        (None, {"pairs": 1, "output": "masks"}, "no output 'masks'"),
        (None, {"pairs": 1, "color": 3}, "does not know color"),
        (None, {"pairs": 1, "known_rows": [0]}, "both partial and known_rows"),
        (None, {"pairs": [("clip.mp4", "b.png")]}, "clip.mp4 is a video.*visual-sentence keyframes"),
        ("query.webm", {"pairs": 1}, "query.webm is a video"),
        ({"pairs": 1}, {}, "There is no query"),
        ({"query": 0, "size": 3}, {}, "An input has 'size'"),
        ({"frames": [], "query": 0}, {}, "either frames or a query"),
        ({"frames": 8}, {}, "7 frames fit, you gave 8"),
        ({"query": 0, "pairs": 4}, {}, "3 pairs fit, you gave 4"),
        ({"query": 0, "num_images": 2}, {"pairs": 1}, "num_images is of frames"),
    ],
)
def test_wrong_use_is_one_line(inputs, options, line, complete, pairs):
    fill = {"query": lambda _: noise(0), "pairs": lambda n: (pairs * 2)[:n], "frames": lambda n: [noise(1)] * n}
    expand = lambda given: {  # noqa: E731
        name: fill[name](value) if name in fill and isinstance(value, int) else value for name, value in given.items()
    }
    inputs = noise(9) if inputs is None else expand(inputs) if isinstance(inputs, dict) else inputs
    with pytest.raises(UserError, match=line) as caught:
        complete(inputs, **expand(options))
    assert "\n" not in str(caught.value)


def test_bad_inputs_are_reported_in_their_place(complete, pairs):
    wrong = {"query": noise(1), "pairs": [(noise(1), noise(2, (7, 9)))]}
    found = complete([noise(1), "missing.png", wrong, noise(2)], pairs=pairs, batch_size=4, on_error="report")
    assert "no such file" in found[1]["error"] and "7 x 9" in found[2]["error"]
    assert same(found[0], complete(noise(1), pairs=pairs)) and same(found[3], complete(noise(2), pairs=pairs))


def test_other_models_are_refused(make_simlvm, complete):  # noqa: F811
    with pytest.raises(UserError, match="VQGAN alone"):
        VisualSentencePipeline(VQGANModel(VQGANConfig(**VQGAN)), image_processor=VQGANImageProcessor(local_size=16))
    with pytest.raises(UserError, match="pictures of 32 pixels, but the model reads 16"):
        VisualSentencePipeline(make_simlvm(), image_processor=VQGANImageProcessor(local_size=32))


def test_without_a_processor_one_is_made_of_the_config(make_simlvm, complete, pairs):  # noqa: F811
    image_processor = VQGANImageProcessor(local_size=16, local_fit="stretch")
    made = VisualSentencePipeline(make_simlvm(), image_processor=image_processor, device="cpu")
    assert made.processor.to_dict() == complete.processor.to_dict()
    assert same(made(noise(1), pairs=pairs), complete(noise(1), pairs=pairs))


def test_no_model_named(simlvm_folder, complete, pairs, monkeypatch):  # noqa: F811
    entry = {
        "impl": VisualSentencePipeline,
        "pt": (AutoModel,),
        "type": "multimodal",
        "default": {"model": (str(simlvm_folder), "main")},
    }
    monkeypatch.setitem(PIPELINE_REGISTRY.supported_tasks, SENTENCE_TASK, entry)
    loaded = pipeline(SENTENCE_TASK, device="cpu")
    assert type(loaded) is VisualSentencePipeline
    assert same(loaded(noise(1), pairs=pairs), complete(noise(1), pairs=pairs))


def test_the_model_that_ships_answers_without_being_named(pairs):
    if SENTENCE_TASK not in PIPELINE_REGISTRY.get_supported_tasks() or not has_weights(shipped_folder("simlvm")):
        pytest.skip("the model that ships has no weights yet")
    found = pipeline(SENTENCE_TASK, device="cpu")(noise(1, (30, 20)), pairs=pairs)
    assert found["mask"].shape == (20, 30)


WITHOUT_PACKAGE = """
import importlib.abc, json, sys

class NoPackage(importlib.abc.MetaPathFinder):  # as on a machine where it is not installed
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "visual_sentence":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, NoPackage())
from PIL import Image
from transformers import pipeline

folder, saved = sys.argv[1:]
complete = pipeline("visual-sentence", model=folder, trust_remote_code=True, device="cpu")
pairs = [(f"{folder}/0.png", f"{folder}/0_mask.png"), (f"{folder}/1.png", f"{folder}/1_mask.png")]
found = complete([f"{folder}/2.png", f"{folder}/missing.png"], pairs=pairs, on_error="report", batch_size=2)
complete.save_pretrained(saved)
print(json.dumps([found[0]["image_tokens"], found[0]["mask"].tolist(), found[1]["error"]]))
"""


@pytest.mark.slow
def test_it_comes_with_the_model(complete, pairs, tmp_path):
    folder, again = tmp_path / "model", tmp_path / "again"
    complete.save_pretrained(folder)
    code = {path.name for path in folder.glob("*.py")}
    for place, (image, target) in enumerate([*pairs, (noise(9), noise(9))]):
        image.save(folder / f"{place}.png")
        target.save(folder / f"{place}_mask.png")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE, str(folder), str(again)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    tokens, mask, error = json.loads(done.stdout.strip().splitlines()[-1])
    expected = complete(noise(9), pairs=pairs)
    assert tokens == expected["image_tokens"] and mask == expected["mask"].tolist() and "no such file" in error
    assert {path.name for path in Path(again).glob("*.py")} == code
    torch.testing.assert_close(
        AutoModel.from_pretrained(folder).language_model.lm_head.weight, complete.model.language_model.lm_head.weight
    )
