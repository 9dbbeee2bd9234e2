"""What was published, loaded in an environment without the package: the same tokens, images and answers as here."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, pipeline

from visual_sentence import UserError, load_language_model
from visual_sentence.modeling import ConseConfig, ConseModel, V2LImageProcessor, V2LProcessor, VQGANImageProcessor
from visual_sentence.publishing import Patience, assemble_repository, list_files, publish
from visual_sentence.publishing.card import PLACE_OF_COMMIT
from visual_sentence.shipped import SHIPPED, shipped_folder

from ..conftest import TOWERS
from ..modeling.test_modeling_frozen import make_frozen  # noqa: F401  (fixture)
from ..modeling.test_modeling_lqae import make_lqae  # noqa: F401  (fixture)
from ..modeling.test_modeling_spae import make_spae  # noqa: F401  (fixture)
from .hub_server import TOKEN, Fault, HubServer

# Prints one JSON object: what each job's model makes of some pictures, or the name of the error that it ends with.
WITHOUT_PACKAGE = """
import json, sys
from importlib.util import find_spec

assert find_spec("visual_sentence") is None
import transformers
from transformers import AutoModel, pipeline

ANSWERS

def load(place, processor, tasks, **settings):
    settings["trust_remote_code"] = True
    model = AutoModel.from_pretrained(place, **settings)
    runs = {task: pipeline(task, model=place, device="cpu", **more, **settings) for task, more in tasks.items()}
    return model, getattr(transformers, processor).from_pretrained(place, **settings), runs

def do(job):
    if "code" in job:
        exec(job["code"], scope := {})
        return {"answer": scope["found"]}
    try:
        loaded = load(**job)
    except (OSError, ValueError) as error:
        return {"error": type(error).__name__}
    return answers(*loaded)

print(json.dumps({name: do(job) for name, job in json.loads(sys.argv[1]).items()}))
"""
# The same lines are run here and there.
ANSWERS = """
def answers(model, processor, runs):
    from PIL import Image

    pictures = [Image.radial_gradient("L").rotate(30 * place).resize((50, 40)).convert("RGB") for place in range(3)]
    kind, found = model.config.model_type, {}
    if kind == "simlvm":
        found["generation"] = model.generation_config.to_dict()
        for task, run in runs.items():
            answer = run(pictures[2], pairs=[tuple(pictures[:2])])
            found[task] = [answer["image_tokens"], answer["image"].tobytes().hex()]
        if not runs:
            done = model.complete(**processor(pairs=[tuple(pictures[:2])], query=pictures[2]))
            found["tokens"], found["image"] = done.image_tokens.tolist(), model.draw(done.image_tokens[:, 0]).tolist()
        return found
    views = processor(pictures[:2], return_tensors="pt")
    if kind == "conse":
        return {"image": model(views["global_pixel_values"]).pooler_output.tolist()}
    if kind == "frozen-prefix":
        return {"image": model(global_pixel_values=views["global_pixel_values"]).prefix_embeds.tolist()}
    if kind == "vqgan":
        tokens = model.encode(**views).image_tokens
        found["tokens"], found["image"] = tokens.tolist(), model.decode(tokens).tolist()
    else:
        output = model.encode(**views)
        found["words"] = output.global_words
        if output.local_tokens is not None:
            found["tokens"] = output.local_tokens.tolist()
            found["image"] = model.decode(output.local_tokens, output.global_tokens).tolist()
        if output.global_tokens is not None and hasattr(processor, "batch_decode"):
            assert processor.batch_decode(output.global_tokens) == output.global_words
    for task, run in runs.items():
        if task == "visual-few-shot-classification":
            answer = run(pictures[1], support={"one": pictures[:1], "other": pictures[2:]})
            found["scores"] = [row["score"] for row in sorted(answer, key=lambda row: row["label"])]
        else:
            answer = run(pictures[1])
            found[task] = [answer[name] for name in ("image_tokens", "words", "global_words")]
            found[task].append(answer["image"].tobytes().hex())
    return found
"""
RECONSTRUCTION, CLASSIFICATION, SENTENCE = "image-reconstruction", "visual-few-shot-classification", "visual-sentence"
# Kind of model -> the pipelines whose answers are compared.
KINDS = {
    "vqgan": (RECONSTRUCTION,),
    "v2l": (RECONSTRUCTION, CLASSIFICATION),
    "v2l-global": (CLASSIFICATION,),
    "simlvm-llama": (SENTENCE,),
    "simlvm-gru": (SENTENCE,),
    "lqae": (RECONSTRUCTION,),
    "spae": (RECONSTRUCTION,),
    "frozen": (),
    "conse": (),
}
PUSHED_PIPELINES = ("vqgan", "v2l-global", "simlvm-llama")
SHIPPED_TASKS = {"v2l": RECONSTRUCTION, "simlvm": SENTENCE}


def online(hub: HubServer) -> dict[str, str]:
    """The environment that makes a process ask this Hub."""
    return {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0", "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1"}


@pytest.fixture
def saved(
    tmp_path,
    make_vqgan,
    make_v2l,
    make_local_v2l,
    make_simlvm,
    make_simlvm_processor,
    make_lqae,  # noqa: F811
    make_spae,  # noqa: F811
    make_frozen,  # noqa: F811
) -> Callable[[str], tuple[Path, object, object]]:
    """Saves a tiny model of a kind; gives its folder, itself and its processor."""
    both = V2LImageProcessor(local_size=16, global_size=32)
    whole = V2LImageProcessor(global_size=32, do_local_view=False)
    made = {
        "vqgan": lambda: (make_vqgan(codebook="simvq"), VQGANImageProcessor(local_size=16)),
        "v2l": lambda: (make_local_v2l(TOWERS["clip"], cross_attention="paper"), V2LProcessor(both)),
        "v2l-global": lambda: (make_v2l("open_clip"), V2LProcessor(whole)),
        "simlvm-llama": lambda: (make_simlvm(aligned_tokens=True), None),
        "simlvm-gru": lambda: (make_simlvm("visual_gru", grid_positions=True), None),
        "lqae": lambda: (make_lqae(), V2LProcessor(V2LImageProcessor(local_size=16, do_global_view=False))),
        "spae": lambda: (make_spae(TOWERS["conse"]), V2LProcessor(both)),
        "frozen": lambda: (make_frozen(), whole),
        "conse": lambda: (ConseModel(ConseConfig(**without_type(TOWERS["conse"][1]))).eval(), whole),
    }

    def save(kind: str):
        model, processor = made[kind]()
        processor = processor or make_simlvm_processor(model)
        folder = tmp_path / "saved" / kind
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        return folder, model, processor

    return save


def without_type(config: dict) -> dict:
    return {name: value for name, value in config.items() if name != "model_type"}


@pytest.fixture
def make_job(llm_folder) -> Callable[..., dict]:
    """Describes what the script is to load."""

    def make(kind: str, place: object, processor: object, tasks: bool = True, **settings: str) -> dict:
        is_whole = type(processor).__name__ in ("V2LProcessor", "SimLVMProcessor")
        asked = {task: {"language_model": str(llm_folder)} if task == CLASSIFICATION else {} for task in KINDS[kind]}
        loader = "AutoProcessor" if is_whole else "AutoImageProcessor"
        return {"place": str(place), "processor": loader, "tasks": asked if tasks else {}, **settings}

    return make


def here(job: dict) -> dict:
    """What the installed package answers to a job of a folder that holds no pipelines of its own."""
    model = AutoModel.from_pretrained(job["place"])
    processor = getattr(transformers, job["processor"]).from_pretrained(job["place"])
    runs = {}
    for task, settings in job["tasks"].items():
        given = {name: load_language_model(value, device="cpu") for name, value in settings.items()}
        runs[task] = pipeline(task, model=job["place"], device="cpu", **given)
    exec(ANSWERS, scope := {})
    return json.loads(json.dumps(scope["answers"](model, processor, runs)))


def check_same(found: dict, expected: dict, name: str) -> None:
    """Tokens, words and pictures in 8 bits to the last; values, and what a language model says, nearly so."""
    assert found.keys() == expected.keys(), name
    for part, value in expected.items():
        if part == "image":
            torch.testing.assert_close(torch.tensor(found[part]), torch.tensor(value), atol=1e-5, rtol=0)
        elif part == "scores":
            assert found[part] == pytest.approx(value, abs=0.02), name  # bfloat16 may be chosen on one side only
        else:
            assert found[part] == value, (name, part)


@pytest.mark.slow
def test_the_same_from_everywhere(hub, saved, make_job, built_repositories, environment, tmp_path, monkeypatch, quick):
    """One process loads all, as starting it takes longer than everything in it."""
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)
    monkeypatch.setattr(transformers.utils.hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    jobs, expected = {}, {}

    def expect(name: str, job: dict, answers: dict) -> None:
        jobs[name], expected[name] = job, answers

    for kind, tasks in KINDS.items():
        folder, model, processor = saved(kind)
        answers = here(make_job(kind, folder, processor))
        assembled = tmp_path / "assembled" / kind
        assembled.mkdir(parents=True)
        repository = assemble_repository(str(folder), assembled, f"me/{kind}")
        assert set(tasks) <= set(repository.tasks)
        expect(f"{kind}, folder", make_job(kind, assembled, processor), answers)
        commit = publish(repository, f"me/{kind}", private=kind == "vqgan").commit
        expect(f"{kind}, server", make_job(kind, f"me/{kind}", processor, revision=commit), answers)
        # what comes later is not seen by those who pinned
        hub.add(f"me/{kind}", {"config.json": b"{}", "model.safetensors": b"other"})

        model.push_to_hub(f"me/{kind}-pushed")
        processor.push_to_hub(f"me/{kind}-pushed")
        files = hub.repositories[f"me/{kind}-pushed"].files()
        assert {path.name for path in folder.iterdir()} <= files.keys(), kind
        assert files["model.safetensors"] == (folder / "model.safetensors").read_bytes(), kind
        job = make_job(kind, folder, processor, tasks=False)
        expect(f"{kind}, push_to_hub", {**job, "place": f"me/{kind}-pushed"}, here(job))
        if kind in PUSHED_PIPELINES:
            job = make_job(kind, folder, processor)
            given = {name: load_language_model(value) for name, value in job["tasks"][tasks[0]].items()}
            pipeline(tasks[0], model=str(folder), device="cpu", **given).push_to_hub(f"me/{kind}-pipeline")
            expect(f"{kind}, push_to_hub of its pipeline", {**job, "place": f"me/{kind}-pipeline"}, answers)
    folder, _, processor = saved("vqgan")
    job = make_job("vqgan", folder, processor)
    break_off(hub, folder, tmp_path)
    expect("an upload that broke off", {**job, "place": "me/broken"}, here(job))
    expect("a first upload that broke off", {**job, "place": "me/half"}, {"error": "ValueError"})
    expect("the card's example", {"code": example(hub, "me/vqgan", tmp_path)}, {"answer": here(job)["tokens"][1]})
    for kind, name in SHIPPED.items():
        job = {
            "place": str(built_repositories / name),
            "processor": "AutoProcessor",
            "tasks": {SHIPPED_TASKS[kind]: {}},
        }
        expect(f"{name}, folder", job, here({**job, "place": str(shipped_folder(kind))}))

    done = environment.run(
        ["-c", WITHOUT_PACKAGE.replace("ANSWERS", ANSWERS), json.dumps(jobs)],
        tmp_path,
        {**online(hub), "HF_TOKEN": TOKEN},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert TOKEN not in done.stdout + done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found.keys() == expected.keys()
    for name, answers in expected.items():
        check_same(found[name], answers, name)


def break_off(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    """Uploads a model, then other weights in vain; and to another repository, in vain at once."""
    places = [tmp_path / name for name in ("whole", "other")]
    for place in places:
        place.mkdir()
    publish(assemble_repository(str(folder), places[0]), "me/broken")
    repository = assemble_repository(str(folder), places[1])
    tensors = load_file(places[1] / "model.safetensors")
    changed = {name: tensor + 0.1 for name, tensor in tensors.items()}
    save_file(changed, places[1] / "model.safetensors", metadata={"format": "pt"})
    repository = replace(repository, files=tuple(list_files(places[1])))
    hub.faults.append(Fault("PUT /large/", cut=500))
    for repo_id in ("me/broken", "me/half"):
        with pytest.raises(UserError, match="nothing was published"):
            publish(repository, repo_id, patience=Patience(tries=2))
    hub.faults.clear()


def example(hub: HubServer, repo_id: str, tmp_path: Path) -> str:
    """The example of a repository's card, with the commit that it asks for, and what it prints as `found`."""
    pictures = [Image.radial_gradient("L").rotate(30 * place).resize((50, 40)) for place in range(2)]
    pictures[1].save(tmp_path / "photo.png")
    repository = hub.repositories[repo_id]
    commit = next(oid for oid, files in repository.commits.items() if "README.md" in files)
    (code,) = re.findall(r"```python\n(.*?)```", repository.files(commit)["README.md"].decode(), re.DOTALL)
    assert code.count(PLACE_OF_COMMIT) == 1
    return code.replace(PLACE_OF_COMMIT, commit).replace("photo.jpg", "photo.png").replace("print(", "found = (")


@pytest.mark.slow
def test_what_would_not_load_is_not_uploaded(push_model, hub, vqgan_folder):
    tensors = load_file(vqgan_folder / "model.safetensors")
    name = sorted(tensors)[0]
    del tensors[name]
    save_file(tensors, vqgan_folder / "model.safetensors", metadata={"format": "pt"})
    outcome = push_model(vqgan_folder, "--json", check=True)
    said = f"1 of missing keys of weights, the first is {name}"
    outcome.is_one_line("would not load where visual-sentence is not installed", said)
    assert not hub.repositories and hub.requests == []


def test_pictures_differ():
    pictures = [Image.radial_gradient("L").rotate(30 * place).resize((50, 40)) for place in range(3)]
    assert len({picture.tobytes() for picture in pictures}) == 3
