"""What was published, loaded where the package cannot be imported: the same tokens, images and answers as here."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, pipeline

from visual_sentence import UserError
from visual_sentence.modeling import V2LImageProcessor, V2LProcessor, VQGANImageProcessor
from visual_sentence.publishing import Patience, assemble_repository, check_loads, publish

from ..conftest import TOWERS
from ..modeling.test_modeling_frozen import make_frozen  # noqa: F401  (fixture)
from ..modeling.test_modeling_lqae import make_lqae  # noqa: F401  (fixture)
from ..modeling.test_modeling_spae import make_spae  # noqa: F401  (fixture)
from .hub_server import TOKEN, Fault, HubServer

# Prints one JSON object: for each [place, arguments] of the command line what the model there makes of two pictures.
WITHOUT_PACKAGE = """
import importlib.abc, json, sys

class NoPackage(importlib.abc.MetaPathFinder):  # as on a machine where it is not installed
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "visual_sentence":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, NoPackage())
from transformers import AutoImageProcessor, AutoModel, AutoProcessor, pipeline

def load(place, processor, task, **settings):
    settings["trust_remote_code"] = True
    loaders = {"AutoProcessor": AutoProcessor, "AutoImageProcessor": AutoImageProcessor}
    model = AutoModel.from_pretrained(place, **settings)
    run = pipeline(task, model=place, device="cpu", **settings) if task else None
    return model, loaders[processor].from_pretrained(place, **settings), run

ANSWERS

print(json.dumps({name: answers(*load(**job)) for name, job in json.loads(sys.argv[1]).items()}))
"""
# The same lines are run here and there.
ANSWERS = """
def answers(model, processor, run):
    from PIL import Image

    pictures = [Image.radial_gradient("L").rotate(30 * place).resize((50, 40)).convert("RGB") for place in range(3)]
    kind = model.config.model_type
    found = {}
    if kind == "simlvm":
        done = model.complete(**processor(pairs=[tuple(pictures[:2])], query=pictures[2]))
        found["tokens"], found["image"] = done.image_tokens.tolist(), model.draw(done.image_tokens[:, 0]).tolist()
        if run is not None:
            answer = run(pictures[2], pairs=[tuple(pictures[:2])])
            found["answer"] = [answer["image_tokens"], list(answer["image"].getdata())]
        return found
    views = processor(pictures[:2], return_tensors="pt")
    if kind == "frozen-prefix":
        return {"image": model(global_pixel_values=views["global_pixel_values"]).prefix_embeds.tolist()}
    if kind == "vqgan":
        tokens = model.encode(**views).image_tokens
        found["tokens"], found["image"] = tokens.tolist(), model.decode(tokens).tolist()
    else:
        output = model.encode(**views)
        found["tokens"], found["words"] = output.local_tokens.tolist(), output.global_words
        found["image"] = model.decode(output.local_tokens, output.global_tokens).tolist()
        if output.global_tokens is not None:
            assert processor.batch_decode(output.global_tokens) == output.global_words
    if run is not None:
        answer = run(pictures[1])
        found["answer"] = [answer[name] for name in ("image_tokens", "words", "global_words")]
        found["answer"].append(list(answer["image"].getdata()))
    return found
"""
TASKS = {"simlvm": "visual-sentence", "frozen": None}
KINDS = ("vqgan", "v2l", "simlvm", "lqae", "spae", "frozen")


def without_package(jobs: dict[str, dict], place: Path, **environment: str) -> dict:
    """What the script prints in a fresh interpreter, away from the repository."""
    hidden = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_ENDPOINT")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE.replace("ANSWERS", ANSWERS), json.dumps(jobs)],
        capture_output=True,
        text=True,
        cwd=place,
        env={**hidden, "HF_MODULES_CACHE": str(place / "modules"), "HF_HOME": str(place / "home"), **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def online(hub: HubServer) -> dict[str, str]:
    """The environment that makes a process ask this Hub."""
    return {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0", "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1"}


@pytest.fixture
def saved(
    tmp_path,
    make_vqgan,
    make_local_v2l,
    make_simlvm,
    make_simlvm_processor,
    make_lqae,  # noqa: F811
    make_spae,  # noqa: F811
    make_frozen,  # noqa: F811
) -> Callable[[str], tuple[Path, object, object]]:
    """Saves a tiny model of a kind; gives its folder, itself and its processor."""

    def save(kind: str):
        both = V2LImageProcessor(local_size=16, global_size=32)
        local = V2LImageProcessor(local_size=16, do_global_view=False)
        if kind == "simlvm":
            model = make_simlvm(aligned_tokens=True)
            processor = make_simlvm_processor(model)
        else:
            made = {
                "vqgan": lambda: (make_vqgan(codebook="simvq"), VQGANImageProcessor(local_size=16)),
                "v2l": lambda: (make_local_v2l(TOWERS["clip"], cross_attention="paper"), V2LProcessor(both)),
                "lqae": lambda: (make_lqae(), V2LProcessor(local)),
                "spae": lambda: (make_spae(TOWERS["conse"]), V2LProcessor(both)),
                "frozen": lambda: (make_frozen(), V2LImageProcessor(global_size=32, do_local_view=False)),
            }
            model, processor = made[kind]()
        folder = tmp_path / "saved" / kind
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        return folder, model, processor

    return save


def job(kind: str, place: object, processor: object, task: bool = True, **settings: str) -> dict:
    is_whole = type(processor).__name__ in ("V2LProcessor", "SimLVMProcessor")
    return {
        "place": str(place),
        "processor": "AutoProcessor" if is_whole else "AutoImageProcessor",
        "task": TASKS.get(kind, "image-reconstruction") if task else None,
        **settings,
    }


def here(kind: str, folder: Path, processor: object, task: bool = True) -> dict:
    """What the installed package answers."""
    model, scope = AutoModel.from_pretrained(folder), {}
    exec(ANSWERS, scope)
    task = TASKS.get(kind, "image-reconstruction") if task else None
    run = pipeline(task, model=str(folder), device="cpu") if task else None
    return json.loads(json.dumps(scope["answers"](model, processor, run)))


def check_same(found: dict, expected: dict) -> None:
    """Tokens, words and pictures in 8 bits to the last, values nearly so."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if name == "image":
            torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(value), atol=1e-5, rtol=0)
        else:
            assert found[name] == value, name


@pytest.mark.slow
def test_from_the_folder_and_from_the_server(hub, saved, tmp_path):
    jobs, expected = {}, {}
    for kind in KINDS:
        folder, _, processor = saved(kind)
        assembled = tmp_path / "assembled" / kind
        assembled.mkdir(parents=True)
        repository = assemble_repository(str(folder), assembled, f"me/{kind}")
        assert TASKS.get(kind, "image-reconstruction") in (*repository.tasks, None)
        commit = publish(repository, f"me/{kind}", private=kind == "vqgan").commit
        expected[kind] = here(kind, folder, processor)
        jobs[f"{kind} folder"] = job(kind, assembled, processor)
        jobs[f"{kind} server"] = job(kind, f"me/{kind}", processor, revision=commit)
        # what comes later is not seen by those who pinned
        hub.add(f"me/{kind}", {"config.json": b"{}", "model.safetensors": b"other"})
    found = without_package(jobs, tmp_path, **online(hub), HF_TOKEN=TOKEN)
    for name, answers in found.items():
        check_same(answers, expected[name.partition(" ")[0]])


@pytest.mark.slow
def test_push_to_hub_of_every_class(hub, saved, tmp_path, monkeypatch):
    jobs, expected = {}, {}
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for kind in KINDS:
        folder, model, processor = saved(kind)
        model.push_to_hub(f"me/{kind}")
        processor.push_to_hub(f"me/{kind}")
        files = hub.repositories[f"me/{kind}"].files()
        for path in folder.iterdir():
            assert path.name in files, path
        assert files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
        # pipelines come along with `visual-sentence push` or their own push_to_hub
        jobs[kind] = job(kind, f"me/{kind}", processor, task=False)
        expected[kind] = here(kind, folder, processor, task=False)
    for kind, answers in without_package(jobs, tmp_path, **online(hub)).items():
        check_same(answers, expected[kind])


@pytest.mark.slow
def test_the_command_tries_it_out_first(push_model, hub, saved):
    folder, _, _ = saved("v2l")
    outcome = push_model(folder, check=True)
    assert outcome.status == 0, outcome.err
    repository = hub.repositories["me/model"]
    head = repository.branches["main"]
    (folder / "local_vocabulary.json").write_text('{"language_model": "tiny", "words": ["one"]}')
    outcome = push_model(folder, "--json", check=True)
    outcome.is_one_line("would not load where visual-sentence is not installed", "they are not of one build")
    assert repository.branches["main"] == head


@pytest.mark.slow
def test_weights_that_lack_something_are_noticed(vqgan_folder, tmp_path):
    tensors = load_file(vqgan_folder / "model.safetensors")
    name = sorted(tensors)[0]
    del tensors[name]
    save_file(tensors, vqgan_folder / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "assembled").mkdir()
    repository = assemble_repository(str(vqgan_folder), tmp_path / "assembled")
    with pytest.raises(UserError, match=f"1 of missing keys of weights, the first is {name}"):
        check_loads(repository.folder, repository.processor_class)


@pytest.mark.slow
def test_an_upload_that_broke_off_leaves_what_loads(hub, saved, tmp_path, quick):
    folder, _, processor = saved("vqgan")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    publish(assemble_repository(str(folder), tmp_path / "first"), "me/model")
    expected = here("vqgan", folder, processor)
    tensors = load_file(folder / "model.safetensors")
    changed = {name: tensor + 0.1 for name, tensor in tensors.items()}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    hub.faults.append(Fault("PUT /large/", cut=500))
    with pytest.raises(UserError, match="nothing was published"):
        publish(assemble_repository(str(folder), tmp_path / "second"), "me/model", patience=Patience(tries=2))
    found = without_package({"model": job("vqgan", "me/model", processor)}, tmp_path, **online(hub))
    check_same(found["model"], expected)


def test_pictures_differ():
    pictures = [Image.radial_gradient("L").rotate(30 * place).resize((50, 40)) for place in range(3)]
    assert len({picture.tobytes() for picture in pictures}) == 3
