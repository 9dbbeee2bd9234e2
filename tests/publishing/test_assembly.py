"""Assembled folders: what save_pretrained writes, what fits the model, and nothing of the machine it was made on."""

import json

import pytest
import torch
from safetensors.torch import load_file

from visual_sentence.modeling import V2LImageProcessor, V2LProcessor, VQGANImageProcessor
from visual_sentence.pipelines import RECONSTRUCTION_TASK, SENTENCE_TASK
from visual_sentence.pipelines.reconstruction import ImageReconstructionPipeline
from visual_sentence.pipelines.visual_sentence import VisualSentencePipeline
from visual_sentence.publishing import assemble_repository, find_source
from visual_sentence.publishing.assembly import OF_WORDS, fitting_tasks

from ..conftest import TOWERS
from ..modeling.test_modeling_frozen import make_frozen  # noqa: F401  (fixture)
from ..modeling.test_modeling_lqae import make_lqae  # noqa: F401  (fixture)
from ..modeling.test_modeling_spae import make_spae  # noqa: F401  (fixture)


@pytest.fixture
def assemble(tmp_path):
    """Assembles a folder into a new one."""

    def run(folder, name: str = "assembled", **arguments):
        (tmp_path / name).mkdir()
        return assemble_repository(str(folder), tmp_path / name, **arguments)

    return run


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_as_the_pipeline_saves_it(assemble, make_vqgan, tmp_path):
    run = ImageReconstructionPipeline(make_vqgan(), image_processor=VQGANImageProcessor(local_size=16), device="cpu")
    run.save_pretrained(tmp_path / "saved")
    repository = assemble(tmp_path / "saved")
    found, saved = contents(repository.folder), contents(tmp_path / "saved")
    assert found.pop("README.md")
    assert json.loads(found.pop("config.json")) == json.loads(saved.pop("config.json"))
    assert found == saved and repository.left_out == ()
    assert [file.path for file in repository.files] == sorted([*found, "README.md", "config.json"])


def test_as_the_pipeline_saves_sentences(assemble, make_simlvm, make_simlvm_processor, tmp_path):
    model = make_simlvm()
    VisualSentencePipeline(model, processor=make_simlvm_processor(model), device="cpu").save_pretrained(
        tmp_path / "one"
    )
    repository = assemble(tmp_path / "one")
    found, saved = contents(repository.folder), contents(tmp_path / "one")
    assert repository.tasks == (SENTENCE_TASK,) and repository.processor_class == "AutoProcessor"
    assert found.keys() - {"README.md"} == saved.keys() - {"preprocessor_config.json"}  # the processor holds it
    assert all(found[name] == saved[name] for name in found if name.endswith((".py", ".safetensors")))


def test_the_same_twice_and_from_what_was_assembled(assemble, vqgan_folder):
    first, second = (assemble(vqgan_folder, name, repo_id="me/model") for name in ("one", "two"))
    third = assemble(first.folder, "three", repo_id="me/model")
    assert first.files == second.files
    assert [file for file in third.files if file.path != "README.md"] == [
        file for file in first.files if file.path != "README.md"
    ]
    assert contents(third.folder)["README.md"] == contents(first.folder)["README.md"]


def test_weights_may_be_pointed_at(assemble, vqgan_folder):
    copied, linked = assemble(vqgan_folder, "copied"), assemble(vqgan_folder, "linked", link=True)
    assert copied.files == linked.files
    assert (linked.folder / "model.safetensors").samefile(vqgan_folder / "model.safetensors")
    assert not (copied.folder / "model.safetensors").samefile(vqgan_folder / "model.safetensors")


def test_nothing_of_this_machine(assemble, make_local_v2l, tmp_path):
    make_local_v2l(TOWERS["clip"], language_model="/home/me/llm").save_pretrained(tmp_path / "saved")
    V2LProcessor(V2LImageProcessor(local_size=16, global_size=32)).save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved/config.json").read_text())
    config["encoder_config"]["_name_or_path"] = config["_name_or_path"] = "/home/me/clip"
    (tmp_path / "saved/config.json").write_text(json.dumps(config))
    (tmp_path / "saved/training.json").write_text('{"data": [{"name": "/home/me/photos", "count": 3}]}')
    (tmp_path / "saved/notes.txt").touch()
    repository = assemble(tmp_path / "saved")
    files = contents(repository.folder)
    assert b"/home/me/clip" not in files["config.json"] and b"/home/me" not in files["README.md"]
    assert b"| data: photos | 3 |" in files["README.md"]
    assert repository.left_out == ("notes.txt", "training.json")
    assert any("names /home/me/llm as its language_model" in note for note in repository.notes)


def test_pipelines_that_fit(
    make_vqgan,
    make_local_v2l,
    make_v2l,
    make_lqae,  # noqa: F811
    make_spae,  # noqa: F811
    make_frozen,  # noqa: F811
    tmp_path,
):
    both = V2LImageProcessor(local_size=16, global_size=32)
    of_local = (RECONSTRUCTION_TASK, "visual-restoration", "masked-image-restoration")
    expected = {
        "vqgan": (make_vqgan(), VQGANImageProcessor(local_size=16), (RECONSTRUCTION_TASK,)),
        "global": (make_v2l(), V2LProcessor(both), OF_WORDS),
        "local": (make_local_v2l(), V2LProcessor(both), of_local),
        "both": (make_local_v2l(TOWERS["clip"], cross_attention="paper"), V2LProcessor(both), (*OF_WORDS, *of_local)),
        "lqae": (make_lqae(), V2LProcessor(both), (RECONSTRUCTION_TASK,)),
        "spae": (make_spae(TOWERS["clip"]), V2LProcessor(both), (*OF_WORDS, RECONSTRUCTION_TASK)),
        "frozen": (make_frozen(), both, ()),
    }
    for name, (model, processor, tasks) in expected.items():
        model.save_pretrained(tmp_path / name)
        processor.save_pretrained(tmp_path / name)
        source = find_source(str(tmp_path / name))
        assert fitting_tasks(source) == tasks, name
        # weights that are tied, as LQAE's words are, lie in the file once
        stored = load_file(tmp_path / name / "model.safetensors")
        assert source.name == name and source.values == sum(map(torch.numel, stored.values())), name
    tied = make_lqae().state_dict()
    assert find_source(str(tmp_path / "lqae")).values < sum(map(torch.numel, tied.values()))
    for name in ("codebook.json", "local_vocabulary.json"):
        (tmp_path / "both" / name).unlink()
    assert fitting_tasks(find_source(str(tmp_path / "both"))) == (RECONSTRUCTION_TASK,)
    for path in (tmp_path / "both").glob("*processor_config.json"):
        path.unlink()
    assert fitting_tasks(find_source(str(tmp_path / "both"))) == ()


def test_a_model_without_a_processor(assemble, vqgan_folder):
    (vqgan_folder / "preprocessor_config.json").unlink()
    repository = assemble(vqgan_folder)
    assert repository.tasks == () and repository.processor_class is None
    assert any(note.startswith("It has no processor") for note in repository.notes)
    assert "custom_pipelines" not in json.loads((repository.folder / "config.json").read_text())
