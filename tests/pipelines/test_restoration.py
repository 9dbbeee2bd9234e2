"""`pipeline("visual-restoration")`: what comes out, how it streams, and what it refuses."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from visual_sentence import UserError
from visual_sentence.language import LanguageModel, entry_texts
from visual_sentence.modeling import LocalVocabulary, V2LConfig, V2LImageProcessor, V2LModel, VQGANConfig, VQGANModel
from visual_sentence.pipelines.restoration import RESTORATION_TASK, VisualRestorationPipeline
from visual_sentence.reconstruction import ImageCodec
from visual_sentence.restoration import MODES, TASKS, PictureRestorer, RestorationSetting, view_of

SIZES = {"image_size": 16, "block_out_channels": [8, 8, 16], "layers_per_block": 1, "norm_num_groups": 4}


@pytest.fixture
def language_model(llm_folder) -> LanguageModel:
    model = AutoModelForCausalLM.from_pretrained(llm_folder).eval()
    return LanguageModel(model, AutoTokenizer.from_pretrained(llm_folder), "tiny-llm")


@pytest.fixture
def v2l(llm_folder, language_model) -> V2LModel:
    texts = entry_texts(language_model.tokenizer)
    sizes = {"local_codebook_size": len(texts), "local_embedding_dim": 8, "latent_channels": 8}
    torch.manual_seed(0)
    model = V2LModel(V2LConfig(encoder_type=None, **SIZES, **sizes, local_projector=False)).eval()
    with torch.no_grad():  # a random encoder alone would write all pictures with the same codes
        latents = model.encode_pixels(torch.rand(40, 3, 16, 16) * 2 - 1).permute(0, 2, 3, 1).flatten(0, 2)
        model.local_quantizer.codebook.copy_(latents[torch.randperm(len(latents))[: len(texts)]])
    model.set_local_vocabulary(LocalVocabulary(texts, str(llm_folder)))
    model.config.language_model = str(llm_folder)
    return model


@pytest.fixture
def folder(v2l, tmp_path) -> Path:
    folder = tmp_path / "v2l-local"
    v2l.save_pretrained(folder)
    V2LImageProcessor(local_size=16, do_global_view=False).save_pretrained(folder)
    return folder


@pytest.fixture
def restore(folder, language_model) -> VisualRestorationPipeline:
    return pipeline(RESTORATION_TASK, model=str(folder), language_model=language_model, device="cpu")


@pytest.fixture
def examples(pictures) -> list[Image.Image]:
    return pictures[3:]


def same(found: list[dict], other: list[dict]) -> bool:
    """Whether pictures agree to a rounded unit, and everything else entirely."""
    for one, two in zip(found, other, strict=True):
        for name in ("image", "degraded", "original"):
            gap = np.abs(np.asarray(one[name], dtype=int) - np.asarray(two[name], dtype=int)).max()
            if gap > 1:
                return False
        if [one["task"], one["mode"]] != [two["task"], two["mode"]]:
            return False
    return True


def test_the_task_gives_our_pipeline(restore):
    assert RESTORATION_TASK == "visual-restoration"
    assert type(restore) is VisualRestorationPipeline


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", TASKS)
def test_it_gives_what_the_restorer_gives(task, mode, restore, v2l, language_model, pictures, examples):
    found = restore(pictures[0], task=task, mode=mode, examples=examples, n=4)
    codec = ImageCodec(v2l, V2LImageProcessor(local_size=16, do_global_view=False), "v2l")
    views, shown = [view_of(pictures[0], 16)], [view_of(example, 16) for example in examples]
    expected = PictureRestorer(codec, language_model).restore(views, RestorationSetting(task, mode, n=4), shown)
    assert list(found) == ["image", "degraded", "original", "task", "mode"]
    named = {"image": expected.restored, "degraded": expected.degraded, "original": expected.originals}
    assert same([found], [{name: drawn[0] for name, drawn in named.items()} | {"task": task, "mode": mode}])


def test_lists_generators_and_batches_agree(restore, pictures, examples, tmp_path):
    options = {"task": "inpainting", "examples": examples, "num_examples": 3}
    expected = [restore(picture, **options) for picture in pictures[:3]]
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for picture, path in zip(pictures, paths, strict=False):
        picture.save(path)
    assert same(restore(pictures[:3], batch_size=2, **options), expected)
    assert same(restore([str(path) for path in paths], **options), expected)
    stream = restore((picture for picture in pictures[:3]), batch_size=2, **options)
    assert isinstance(stream, Iterator) and same(list(stream), expected)


def test_examples_may_be_paths_or_one_picture(restore, pictures, tmp_path):
    path = tmp_path / "example.png"
    pictures[4].save(path)
    expected = restore(pictures[0], task="shift", examples=[pictures[4]])
    for examples in (pictures[4], str(path), [path], ({"image": pictures[4]},)):
        assert same([restore(pictures[0], task="shift", examples=examples)], [expected])


def test_examples_are_opened_once(restore, pictures, examples, monkeypatch):
    opened = []
    module = "visual_sentence.pipelines.restoration"
    monkeypatch.setattr(f"{module}.open_picture", lambda picture: opened.append(picture) or picture)
    restore(pictures[:3], task="rotation", examples=examples)
    assert len(opened) == 3 + len(examples)
    restore(pictures[:1], task="rotation", examples=examples[:1])
    assert len(opened) == 3 + len(examples) + 2


def test_every_option_reaches_the_result(restore, pictures, examples):
    plain = restore(pictures[0], task="shift", examples=examples)
    for options in (
        {"seed": 1},
        {"variant": "paper"},
        {"m": 3},
        {"num_examples": 2},
        {"shift": 0.5},
        {"mode": "paper"},
    ):
        other = restore(pictures[0], task="shift", examples=examples, **options)
        assert not same([other], [{**plain, "mode": other["mode"]}]), options


def test_damaged_pictures_have_no_original(restore, pictures, examples):
    found = restore(pictures[0], task="deblurring", examples=examples, already_degraded=True)
    assert found["original"] is None
    assert found["degraded"].tobytes() == view_of(pictures[0], 16).picture.tobytes()


def test_a_broken_picture_is_reported_and_the_rest_go_on(restore, pictures, examples, bad_files):
    bad, said, _ = bad_files["text"]
    options = {"task": "rotation", "examples": examples}
    found = restore([pictures[0], str(bad), pictures[1]], batch_size=3, on_error="report", **options)
    assert list(found[1]) == ["error"] and said in found[1]["error"]
    assert same([found[0], found[2]], restore(pictures[:2], **options))


def test_the_language_model_is_the_one_of_the_words(folder, llm_folder, pictures):
    unnamed = pipeline(RESTORATION_TASK, model=str(folder), device="cpu")
    assert unnamed(pictures[0], task="rotation", mode="paper")["task"] == "rotation"
    assert unnamed.language_model.reference == str(llm_folder)


def test_mistakes_are_named(restore, pictures, examples, bad_files):
    for arguments, message in (
        ({"examples": examples}, "needs a task: pass task= one of inpainting"),
        ({"task": "haze", "examples": examples}, "no restoration task 'haze'"),
        ({"task": "shift"}, "there is none: give examples, or choose mode paper"),
        ({"task": "shift", "examples": []}, "there is none: give examples"),
        ({"task": "shift", "mode": "paper", "already_degraded": True}, "come degraded: choose mode leak-free"),
        ({"task": "shift", "mode": "honest"}, "no restoration mode 'honest'"),
        ({"task": "shift", "examples": 3}, "examples must be a list of pictures, found int"),
        ({"task": "shift", "examples": pictures}, "among its own examples"),
        ({"task": "shift", "examples": [str(bad_files["missing"][0])]}, "no such file"),
        ({"task": "shift", "examples": examples, "temperature": 1}, "does not know temperature"),
    ):
        with pytest.raises(UserError, match=message) as raised:
            restore(pictures[0], **arguments)
        assert "\n" not in str(raised.value)


def test_models_that_do_not_fit_are_refused(v2l_folder, folder, pictures, examples, tmp_path):
    with pytest.raises(UserError, match="without a local half"):
        pipeline(RESTORATION_TASK, model=str(v2l_folder), device="cpu")
    vqgan = VQGANModel(VQGANConfig(**SIZES, latent_channels=8, codebook_size=24, codebook_dim=8))
    with pytest.raises(UserError, match="is a VQGAN, whose codes no language model can read"):
        processor = V2LImageProcessor(local_size=16, do_global_view=False)
        VisualRestorationPipeline(model=vqgan, image_processor=processor)
    served = pipeline(RESTORATION_TASK, model=str(folder), language_model="http://localhost:1/v1", device="cpu")
    with pytest.raises(UserError, match="works on token ids"):
        served(pictures[0], task="shift", examples=examples)
