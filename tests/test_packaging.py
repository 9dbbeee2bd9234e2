"""What an installed package must hold: its data files, every package folder, one version; and that its wheel works."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import visual_sentence

from .publishing.fresh_environment import FreshEnvironment, make_environment

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
# Without colours, and of a width that breaks no line.
PLAIN = {**os.environ, "NO_COLOR": "1", "COLUMNS": "400"}
# Run by Python itself when it starts: opening or listing anything below ROOT fails, but for what is below BUT.
CLOSED = """
import os, sys

def close(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if is_below(path, ROOT) and not any(is_below(path, folder) for folder in BUT):
            raise PermissionError(f"read from the repository: {path}")

def is_below(path, folder):
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)

sys.addaudithook(close)
"""


@pytest.fixture(scope="session")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def built(package_folders, tmp_path_factory) -> dict[str, Path]:
    """What `python -m build` makes of the sources: "sdist", and the "wheel" that is built out of it."""
    for module in ("build", "twine"):
        pytest.importorskip(module, reason="needs build and twine (visual-sentence[dev])")
    pytest.importorskip("setuptools", minversion="77", reason="needs setuptools to build a wheel")
    source, output = (tmp_path_factory.mktemp("build") / name for name in ("source", "dist"))
    # a copy, since building writes beside the sources
    copied = [*(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE")), *package_folders.values()]
    for path in {path for place in copied for path in ([place] if place.is_file() else place.rglob("*"))}:
        if path.is_file() and "__pycache__" not in path.parts:
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), str(source)])
    (sdist,), (wheel,) = output.glob("*.tar.gz"), output.glob("*.whl")
    return {"sdist": sdist, "wheel": wheel}


def run(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
    """Runs a program that has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **settings)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done


@pytest.mark.slow
def test_the_wheel_holds_everything(built, package_folders):
    names = set(zipfile.ZipFile(built["wheel"]).namelist())
    assert set(DATA) <= names
    assert built["wheel"].stat().st_size < MOST_BYTES
    for package, folder in package_folders.items():
        for path in folder.glob("*.py"):
            assert f"{package.replace('.', '/')}/{path.name}" in names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {
        "visual_sentence",
        "visual_sentence_cli",
    }


@pytest.mark.slow
def test_the_source_distribution_is_no_larger_than_indexes_take(built):
    assert built["sdist"].stat().st_size < MOST_BYTES
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"} <= names


@pytest.mark.slow
def test_an_index_would_take_both(built):
    said = run([sys.executable, "-m", "twine", "check", "--strict", *map(str, built.values())], env=PLAIN).stdout
    assert said.count("PASSED") == 2


@pytest.fixture(scope="session")
def installed(built, tmp_path_factory) -> FreshEnvironment:
    """An environment with the wheel, in which nothing can read from the repository."""
    environment = make_environment(tmp_path_factory.mktemp("installed") / "environment", built["wheel"])
    closed = f"ROOT, BUT = {str(ROOT)!r}, {[sys.prefix, *site_folders()]!r}\n{CLOSED}"
    (environment.site_packages / "sitecustomize.py").write_text(closed, encoding="utf-8")
    return environment


def site_folders() -> list[str]:
    """Where what is installed here lies, which may be inside the repository."""
    return [sysconfig.get_path(name) for name in ("purelib", "platlib")]


@pytest.mark.slow
def test_the_repository_is_out_of_reach_of_the_wheel(installed, tmp_path):
    """That is, a reading of it would be noticed."""
    done = installed.run(["-c", f"open({str(ROOT / 'README.md')!r})"], tmp_path)
    assert done.returncode == 1 and "PermissionError: read from the repository" in done.stderr


@pytest.mark.slow
def test_the_wheels_command_says_its_version(installed, project, tmp_path):
    done = installed.run(["--version"], tmp_path, program="visual-sentence")
    assert (done.returncode, done.stdout) == (0, f"visual-sentence {project['project']['version']}\n"), done.stderr
