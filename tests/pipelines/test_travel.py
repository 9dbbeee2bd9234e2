"""Pipelines that come with a model: flat code that the Hub's loader follows, run where the package is missing."""

import importlib
import json
import sys
from pathlib import Path

import pytest
from PIL import Image
from transformers import AutoModel, pipeline
from transformers.dynamic_module_utils import get_imports, get_relative_import_files, get_relative_imports
from transformers.pipelines import PIPELINE_REGISTRY

import visual_sentence
from visual_sentence import UserError, hub_code, load_language_model
from visual_sentence.hub_code import add_pipelines, flat_code, write_pipeline_code
from visual_sentence.modeling import V2LImageProcessor
from visual_sentence.pipelines import FEW_SHOT_TASK, VisualFewShotClassificationPipeline
from visual_sentence.pipelines.reconstruction import ImageReconstructionPipeline

from ..modeling.conftest import make_local_v2l, make_vqgan  # noqa: F401  (fixtures)
from ..modeling.test_hub_round_trip import endpoint  # noqa: F401  (fixture)

MODELING = Path(visual_sentence.modeling.__file__).parent
TASKS = [
    name
    for name, entry in PIPELINE_REGISTRY.supported_tasks.items()
    if getattr(entry["impl"], "__module__", "").startswith("visual_sentence.")
]
# What a machine needs on which a pipeline is loaded with its code; the masked restoration also needs peft.
INSTALLED = {"PIL", "datasets", "huggingface_hub", "numpy", "rich", "safetensors", "torch", "transformers"}
AT_HOME = ("offline", "codebook", "encoders", "conversion", "training", "demo", "metrics", "features", "registration")


def test_there_are_tasks():
    assert FEW_SHOT_TASK in TASKS


@pytest.mark.parametrize("task", TASKS)
def test_the_loader_finds_every_file_and_nothing_else_is_needed(task, tmp_path):
    files = write_pipeline_code(tmp_path, [task])
    assert [path.name for path in files] == sorted(path.name for path in tmp_path.iterdir())
    names = {path.stem for path in files}
    needed = set()
    for path in files:
        compile(path.read_text(encoding="utf-8"), str(path), "exec")
        assert set(get_relative_imports(path)) <= names
        needed |= set(get_imports(path)) - set(sys.stdlib_module_names)
    assert needed - {"peft"} == INSTALLED
    assert ("peft" in needed) == (task == "masked-image-restoration")
    implementation = PIPELINE_REGISTRY.supported_tasks[task]["impl"]
    entry = tmp_path / f"{implementation.__module__.removeprefix('visual_sentence.').replace('.', '_')}.py"
    assert {Path(name) for name in get_relative_import_files(entry)} | {entry} == set(files)


@pytest.mark.parametrize("task", TASKS)
def test_the_code_is_the_same_every_time_and_no_heavy_room_comes_along(task, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_pipeline_code(tmp_path / name, [task])
    texts = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert texts == {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()}
    for name, text in texts.items():
        assert not name.startswith(AT_HOME), name
        original = MODELING / name
        if original.exists():
            assert text == original.read_bytes()  # models carry these files themselves


FILES = {
    "__init__.py": "",
    "errors.py": "class UserError(ValueError):\n    pass\n",
    "knobs.py": "SIZE = 7\n",
    "room/__init__.py": "from .inner import VALUE as GIVEN\nfrom .unused import NOTHING\n\nOWN = 5\n",
    "room/inner.py": "from .. import knobs\n\nVALUE = knobs.SIZE + 1\n",
    "room/unused.py": "NOTHING = None\n",
    "shop/__init__.py": "from ..room import GIVEN as GOODS\n",
    "modeling/__init__.py": "from .thing import THING\n",
    "modeling/thing.py": "from .part import (\n    PART,\n)\n\nTHING = [PART]\n",
    "modeling/part.py": "PART = 'part'\n",
    "offline/__init__.py": "def folder():\n    return 'here'\n",
    "task.py": """\"\"\"A task.\"\"\"

import os

from . import knobs as settings, room
from .modeling import THING
from .room import (
    GIVEN,  # from another file
    OWN as mine,
)
from .shop import GOODS


def late():
    if os.sep:
        from .room.inner import VALUE as found
    return found


def away():
    from .offline import folder

    return folder()
""",
}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Writes a small package, in place of this one; gives its folder."""

    def write(**changed: str) -> Path:
        folder = tmp_path / "at_home" / "tinypkg"
        for name, text in {**FILES, **changed}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        monkeypatch.syspath_prepend(str(folder.parent))
        monkeypatch.setattr(hub_code, "PACKAGE", "tinypkg")
        for cached in (hub_code.find, hub_code.parsed):
            cached.cache_clear()
        return folder

    yield write
    for cached in (hub_code.find, hub_code.parsed):
        cached.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tinypkg", "flatpkg")]:
        del sys.modules[name]


def test_flat_code_does_what_the_package_does(tiny, tmp_path, monkeypatch):
    tiny()
    home = importlib.import_module("tinypkg.task")
    texts = flat_code(["tinypkg.task"])
    assert list(texts) == ["errors", "knobs", "part", "room", "room_inner", "room_unused", "task", "thing"]
    flat = tmp_path / "away" / "flatpkg"
    flat.mkdir(parents=True)
    for name, text in {**texts, "__init__": ""}.items():
        (flat / f"{name}.py").write_text(text)
    found = {Path(name).stem for name in get_relative_import_files(flat / "task.py")}
    assert found == set(texts) - {"task"}
    monkeypatch.syspath_prepend(str(flat.parent))
    away = importlib.import_module("flatpkg.task")
    for module in (home, away):
        assert (module.settings.SIZE, module.GIVEN, module.mine, module.THING, module.GOODS) == (7, 8, 5, ["part"], 8)
        assert module.late() == 8 and module.room.OWN == 5
    assert {name for name in vars(away) if not name.startswith("_")} == {
        name for name in vars(home) if not name.startswith("_")
    }
    assert texts["thing"] == FILES["modeling/thing.py"]
    # the package is used for what did not come along, and missed in one line
    assert away.away() == "here"
    monkeypatch.setitem(sys.modules, "tinypkg.offline", None)
    with pytest.raises(importlib.import_module("flatpkg.errors").UserError) as caught:
        away.away()
    assert "'offline' needs the visual-sentence package" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"task.py": "from .room import *\n"}, "Everything of tinypkg.room is imported"),
        ({"task.py": "import os; from .knobs import SIZE\n"}, "line 1: a relative import must stand on lines of its"),
        ({"task.py": "from .knobs import SIZE; SIZE += 1\n"}, "line 1: a relative import must stand on lines of its"),
        ({"task.py": "from tinypkg.knobs import SIZE\n"}, "line 1: inside the package imports must"),
        ({"task.py": "def late():\n    import tinypkg.knobs\n"}, "line 2: inside the package imports must"),
        ({"task.py": "from .offline import folder\n"}, "tinypkg.offline stays at home"),
        ({"task.py": "'''Text:\nfrom .knobs import SIZE is how it is written.\n'''\n"}, "reads like a relative import"),
        ({"task.py": "from .gone import SIZE\n"}, "no module tinypkg.gone"),
        ({"task.py": "from .a.b_c import X\nfrom .a_b.c import Y\n", "a/__init__.py": "", "a_b/__init__.py": "",
          "a/b_c.py": "X = 1\n", "a_b/c.py": "Y = 1\n"}, "would both be written as a_b_c.py"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:30],
)  # fmt: skip
def test_what_cannot_travel_is_refused_when_it_is_written(changed, message, tiny):
    tiny(**changed)
    with pytest.raises(ValueError, match=message):
        flat_code(["tinypkg.task"])


def test_add_pipelines_needs_a_model_with_its_code(v2l_folder, tmp_path):
    with pytest.raises(UserError, match="is no model folder"):
        add_pipelines(tmp_path, [FEW_SHOT_TASK])
    for task in ("text-generation", "no-such-task", Image.Image):
        with pytest.raises(UserError, match=f"no pipeline of visual-sentence.*{FEW_SHOT_TASK}"):
            add_pipelines(v2l_folder, [task])
    assert "custom_pipelines" not in json.loads((v2l_folder / "config.json").read_text())
    config = json.loads((v2l_folder / "config.json").read_text())
    del config["auto_map"]
    (v2l_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="names no code for the model"):
        add_pipelines(v2l_folder, [FEW_SHOT_TASK])


def test_the_config_names_the_tasks_beside_those_it_had(v2l_folder):
    before = json.loads((v2l_folder / "config.json").read_text())
    add_pipelines(v2l_folder, [FEW_SHOT_TASK])
    add_pipelines(v2l_folder, [ImageReconstructionPipeline])
    config = json.loads((v2l_folder / "config.json").read_text())
    few_shot = "pipelines_few_shot_classification.VisualFewShotClassificationPipeline"
    reconstruction = "pipelines_reconstruction.ImageReconstructionPipeline"
    assert config.pop("custom_pipelines") == {
        FEW_SHOT_TASK: {"impl": few_shot, "pt": ["AutoModel"]},
        "image-reconstruction": {"impl": reconstruction, "pt": ["AutoModel"]},
    }
    assert config == before


def test_a_saved_pipeline_is_a_folder_with_everything(make_v2l, tmp_path):
    saved = VisualFewShotClassificationPipeline(make_v2l(), image_processor=V2LImageProcessor(global_size=32))
    saved.save_pretrained(tmp_path / "model")
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"model.safetensors", "codebook.json", "preprocessor_config.json", "modeling_v2l.py"} <= names
    assert "pipelines_few_shot_classification.py" in names
    assert list(json.loads((tmp_path / "model" / "config.json").read_text())["custom_pipelines"]) == [FEW_SHOT_TASK]
    with pytest.raises(UserError, match="push_to_hub"):
        saved.save_pretrained(tmp_path / "other", push_to_hub=True)


def test_a_model_saved_alone_promises_no_pipeline(v2l_folder, tmp_path):
    add_pipelines(v2l_folder, [FEW_SHOT_TASK])
    model = AutoModel.from_pretrained(v2l_folder)
    loaded = VisualFewShotClassificationPipeline(model, image_processor=V2LImageProcessor(global_size=32))
    loaded.model.save_pretrained(tmp_path / "alone")
    assert "custom_pipelines" not in json.loads((tmp_path / "alone" / "config.json").read_text())


@pytest.mark.usefixtures("modules_cache")
def test_where_the_package_is_installed_too_both_kinds_of_objects_meet(make_v2l, llm_folder, tmp_path):
    folder, processor = tmp_path / "model", V2LImageProcessor(global_size=32)
    VisualFewShotClassificationPipeline(make_v2l(), image_processor=processor).save_pretrained(folder)
    language_model = load_language_model(str(llm_folder), dtype="float32", device="cpu")
    settings = {"model": str(folder), "language_model": language_model, "device": "cpu"}
    teal, gold = Image.new("RGB", (50, 40), "teal"), Image.new("RGB", (50, 40), "gold")
    came_along = pipeline(FEW_SHOT_TASK, **settings, trust_remote_code=True)
    installed = pipeline(FEW_SHOT_TASK, **settings, pipeline_class=VisualFewShotClassificationPipeline)
    assert type(came_along).__module__.startswith("transformers_modules.")
    assert type(installed) is VisualFewShotClassificationPipeline
    question = {"inputs": [teal, gold], "support": {"sea": [teal], "sun": [gold]}}
    assert came_along(**question) == installed(**question)
    with pytest.raises(ValueError, match="trust_remote_code=True"):  # transformers asks wherever code came along
        pipeline(FEW_SHOT_TASK, **settings)
