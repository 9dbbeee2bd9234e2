"""What an installed package must hold: its data files, every package folder, one version, and a wheel that has all."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import visual_sentence

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[1]
DATA = [
    "visual_sentence/hub_configs/v2l-offline/codebook.json",
    "visual_sentence/hub_configs/v2l-offline/codebook.safetensors",
    "visual_sentence/hub_configs/v2l-small/model.safetensors",
    "visual_sentence/hub_configs/v2l-small/local_vocabulary.json",
    "visual_sentence/hub_configs/simlvm-small/model.safetensors",
    "visual_sentence/metrics/few_shot_accuracy/few_shot_accuracy.py",
    "visual_sentence/offline/requirements.txt",
]
# What package indexes take without asking is 100 MB.
MOST_BYTES = 95_000_000


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def package_folders(project) -> dict[str, Path]:
    """Package -> its folder in the repository, as setuptools finds it."""
    folders = project["tool"]["setuptools"]["package-dir"]
    found = {}
    for package in project["tool"]["setuptools"]["packages"]:
        known = max((name for name in folders if package == name or package.startswith(f"{name}.")), key=len)
        found[package] = ROOT / folders[known] / package.removeprefix(known).strip(".").replace(".", "/")
    return found


def test_versions_agree(project):
    assert project["project"]["version"] == visual_sentence.__version__


def test_every_package_is_named(package_folders):
    listed = {folder for folder in package_folders.values() if (folder / "__init__.py").is_file()}
    assert listed == set(package_folders.values())
    rooms = [*(ROOT / "src").rglob("__init__.py"), ROOT / "modeling/__init__.py", ROOT / "hub_configs/__init__.py"]
    assert listed == {path.parent for path in rooms}


def test_data_patterns_catch_the_data(project, package_folders):
    caught = {
        package.replace(".", "/") + "/" + path.relative_to(package_folders[package]).as_posix()
        for package, patterns in project["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for path in package_folders[package].glob(pattern)
    }
    assert set(DATA) <= caught


def test_the_command_is_where_the_project_says(project):
    module, _, name = project["project"]["scripts"]["visual-sentence"].partition(":")
    assert callable(getattr(__import__(module), name))


def test_the_wheel_holds_everything(package_folders, tmp_path):
    pytest.importorskip("setuptools", minversion="77", reason="needs setuptools to build a wheel")
    # a copy, since building writes beside the sources
    copied = [*(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE")), *package_folders.values()]
    sources = {path for place in copied for path in ([place] if place.is_file() else place.rglob("*"))}
    for path in sources:
        if path.is_file() and "__pycache__" not in path.parts:
            target = tmp_path / "source" / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    script = "from setuptools.build_meta import build_wheel; print(build_wheel('../wheel'))"
    (tmp_path / "wheel").mkdir()
    built = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "source", capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert set(DATA) <= names
    assert wheel.stat().st_size < MOST_BYTES
    for package, folder in package_folders.items():
        for path in folder.glob("*.py"):
            assert f"{package.replace('.', '/')}/{path.name}" in names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {
        "visual_sentence",
        "visual_sentence_cli",
    }
