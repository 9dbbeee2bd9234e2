"""`push_to_hub` of models and pipelines: all that belongs to a model, and only what is true of it as it is now."""

import pytest
import torch
from huggingface_hub import ModelCard, constants
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel, AutoProcessor, pipeline

from visual_sentence import UserError
from visual_sentence.model_types import MODELS
from visual_sentence.pipelines import PIPELINES, RECONSTRUCTION_TASK
from visual_sentence.publishing import card
from visual_sentence.registration import push_pipeline_to_hub, push_to_hub

from .hub_server import OTHER_TOKEN, TOKEN

MEASURED = '{"data": "left-out", "n": 200, "psnr": 23.456}'


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    """A cache of its own for what is fetched."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(vqgan_folder):
    """A model folder with what was measured of it."""
    (vqgan_folder / "evaluation.json").write_text(MEASURED)
    return vqgan_folder


@pytest.fixture
def files(hub):
    """Gives the files of a repository, or None."""

    def read(repo_id: str = "me/model") -> dict[str, bytes] | None:
        found = hub.repositories.get(repo_id)
        return None if found is None else found.files()

    return read


def load(folder):
    return AutoModel.from_pretrained(folder)


def test_every_class_has_it():
    assert all(model_class.push_to_hub is push_to_hub for _, model_class, _ in MODELS)
    assert all(pipeline_class.push_to_hub is push_pipeline_to_hub for pipeline_class in PIPELINES)


def test_a_model_goes_as_the_command_publishes_its_folder(folder, files, push_model):
    assert push_model(folder, "--repo-id", "me/other").status == 0
    url = load(folder).push_to_hub("me/model", commit_message="ours", private=True)
    assert "/me/model/commit/" in url
    found, other = files(), files("me/other")
    assert found.keys() == other.keys()
    other["README.md"] = other["README.md"].replace(b"me/other", b"me/model")
    assert found == other
    assert b"| psnr | 23.46 |" in found["README.md"] and "custom_pipelines" in found["config.json"].decode()


def test_of_a_changed_model_nothing_is_said_that_was_measured_before(folder, files):
    model = load(folder)
    with torch.no_grad():
        model.quant_conv.weight += 0.5
    model.push_to_hub("me/model")
    found = files()
    assert b"23.46" not in found["README.md"] and b"# model: a VQGAN" in found["README.md"]
    assert "preprocessor_config.json" in found and "custom_pipelines" in found["config.json"].decode()
    assert found["model.safetensors"] != (folder / "model.safetensors").read_bytes()
    model = load(folder)
    model.config.commitment_weight = 9.5
    model.push_to_hub("me/second")
    assert b"23.46" not in files("me/second")["README.md"]
    model = load(folder).to(torch.bfloat16)
    model.push_to_hub("me/third")
    assert b"23.46" not in files("me/third")["README.md"]


def test_a_model_out_of_nowhere(make_vqgan, files, tmp_path):
    model = make_vqgan()
    model.push_to_hub("me/model")
    assert "preprocessor_config.json" not in files() and b"has no processor" not in files()["README.md"]
    (tmp_path / "model.safetensors").write_bytes(files()["model.safetensors"])
    assert torch.equal(load_file(tmp_path / "model.safetensors")["quant_conv.weight"], model.quant_conv.weight)


def test_a_processor_can_be_given(folder, make_vqgan, files):
    processor = AutoImageProcessor.from_pretrained(folder)
    load(folder).push_to_hub("me/model", processor=processor)
    assert b"23.46" in files()["README.md"]  # it is the folder's
    make_vqgan().push_to_hub("me/second", processor=processor)
    assert files("me/second")["preprocessor_config.json"] == files()["preprocessor_config.json"]
    assert "custom_pipelines" in files("me/second")["config.json"].decode()


def test_words_and_processor_of_a_whole_model(v2l_folder, files, caplog):
    model, processor = AutoModel.from_pretrained(v2l_folder), AutoProcessor.from_pretrained(v2l_folder)
    model.push_to_hub("me/model")
    assert {"codebook.json", "processor_config.json"} <= files().keys()
    with torch.no_grad():
        model.global_quantizer.codebook += 0.1
    processor.image_processor.global_size = 48
    model.push_to_hub("me/second", processor=processor)
    assert b'"global_size": 48' in files("me/second")["processor_config.json"]
    assert files("me/second")["codebook.json"] == files()["codebook.json"]
    model.push_to_hub("me/third", processor=processor.image_processor)
    assert files("me/third")["processor_config.json"] == files("me/second")["processor_config.json"]
    assert "has no processor" not in caplog.text


def test_a_pipelines_image_processor_goes_along(folder, files):
    made = pipeline(RECONSTRUCTION_TASK, model=str(folder), device="cpu")
    made.push_to_hub("me/model")
    assert b"23.46" in files()["README.md"]
    made.push_to_hub("me/given", processor=AutoImageProcessor.from_pretrained(folder))
    assert files("me/given").keys() == files().keys()
    made.image_processor.local_size = 32
    made.push_to_hub("me/second")
    assert b'"local_size": 32' in files("me/second")["preprocessor_config.json"]
    assert b"23.46" not in files("me/second")["README.md"]  # of other pictures


def test_a_card_that_is_there_is_kept_unless_the_folder_brings_one(folder, hub, files):
    (folder / "evaluation.json").unlink()
    hub.add("me/model", {"README.md": b"---\ntags:\n- mine\n---\n\n# By hand\n"})
    load(folder).push_to_hub("me/model")
    assert files()["README.md"].endswith(b"# By hand\n") and "model.safetensors" in files()
    load(folder).push_to_hub("me/model", tags=["one", "mine"])
    told = ModelCard(files()["README.md"].decode())
    assert told.data.tags == ["mine", "one"] and "# By hand" in told.text
    (folder / "README.md").write_text("# The folder's own\n")
    load(folder).push_to_hub("me/model", tags=["two"])
    told = ModelCard(files()["README.md"].decode())
    assert "# The folder's own" in told.text and told.data.tags[-1] == "two" and card.BEGIN in told.text


def test_mistakes_are_one_line(folder, hub, monkeypatch):
    model = load(folder)
    with pytest.raises(UserError, match="write OWNER/NAME"):
        model.push_to_hub("model")
    with pytest.raises(UserError, match="create_pr is not taken"):
        model.push_to_hub("me/model", create_pr=True)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("visual_sentence.publishing.upload.get_token", lambda: None)
    with pytest.raises(UserError, match="no token"):
        model.push_to_hub("me/model")
    with pytest.raises(UserError, match="me/model"):
        model.push_to_hub("me/model", token=OTHER_TOKEN)
    assert "me/model" not in hub.repositories
    model.push_to_hub("me/model", token=TOKEN)
    assert "me/model" in hub.repositories


def test_what_was_pushed_reads_pictures(folder, files, tmp_path):
    load(folder).push_to_hub("me/model")
    for name, content in files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    picture = Image.new("RGB", (20, 30), "teal")
    one, other = (
        AutoImageProcessor.from_pretrained(place)(picture, return_tensors="pt") for place in (folder, tmp_path)
    )
    assert torch.equal(one["pixel_values"], other["pixel_values"])
