"""What README and docs say is true: paths exist, commands parse, the example runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from visual_sentence_cli.main import app

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    "answer|caption|classify|codebook|compact|complete|convert|demo|describe|evaluate|info|keyframes|offline|"
    "push|reconstruct|reproduce|restore-masked|restore|sentence"
)
COMMAND = rf"visual-sentence ((?:{COMMANDS})\b(?!-)[^#&]*)"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in that language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_files_exist(page):
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), f"{page.name} links {link}"


def test_paths_of_the_readme_exist():
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## Where things are")[1]
    for path in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE):
        assert (ROOT / path).is_dir(), path


def test_files_that_the_architecture_names_exist():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for path in re.findall(r"(?:modeling|src|codebook|tests)/[\w/]+\.py", text):
        assert (ROOT / path).is_file() or (ROOT / "src" / "visual_sentence" / path).is_file(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page):
    command, checked = typer.main.get_command(app), 0
    for block in blocks(page, "bash"):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            for part in re.findall(COMMAND, line):
                words = [word.strip("\"'") for word in part.split()]
                target, context = command, command.context_class(command)
                while hasattr(target, "commands"):
                    _, target, words = target.resolve_command(context, words)
                    context = target.context_class(target, parent=context)
                target.parse_args(context, words)
                checked += 1
    assert checked or page.name not in ("README.md", "few_shot.md", "codebook.md")


@pytest.mark.slow
@pytest.mark.offline_stack
def test_the_readmes_example_runs_as_pasted(offline_models, tmp_path):
    example = blocks(ROOT / "README.md", "python")[0]
    result = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "'label': 'motorcycle'" in result.stdout.split("}")[0]
