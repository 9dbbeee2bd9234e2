"""The documentation as a site: navigation, links, commands and Python of the pages, citation, and that it builds."""

import argparse
import ast
import importlib
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from itertools import dropwhile
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer
import yaml
from accelerate.commands.launch import launch_command_parser

from visual_sentence import UserError
from visual_sentence_cli.main import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
# Pages of the site that lie elsewhere in the repository; `docs/site_hooks.py` brings them in.
ELSEWHERE = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
PAGES = sorted(DOCS.rglob("*.md"))
# Pages written for the site; `results.md` names files of older commits.
NEW = [
    *(DOCS / name for name in ("index.md", "getting_started.md", "concepts.md", "compare.md", "security.md")),
    *sorted((DOCS / "howto").glob("*.md")),
    *sorted((DOCS / "reference").glob("*.md")),
]
TOP = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
SITE_PACKAGES = ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers.python")
OTHER_HOST = re.compile(r"(?:https?:)?//")
# Relations of a `<link>` that make a browser fetch or connect at once.
FETCHING_RELATIONS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "modulepreload"}
# The theme's own script fetches this where a page has a diagram of that kind.
MERMAID = ("https://unpkg.com/mermaid",)
# What a shell puts between two commands.
SEPARATORS = {"&&", "||", ";", "|"}


def name_of(page: Path) -> str:
    """How a page is called in a test's name."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def outside_code(page: Path) -> str:
    """A page without its code, in which brackets mean something else."""
    return re.sub(r"^```.*?^```|`[^`\n]+`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def named(nav: object) -> list[str]:
    """Every page of a navigation, in order."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [path for part in parts for path in named(part)]


def commands(page: Path) -> list[list[str]]:
    """The commands of a page's shell blocks."""
    return [command for block in blocks(page, "bash") for command in commands_of(block)]


def commands_of(block: str) -> list[list[str]]:
    """The commands of a shell block, as words, without comments and without `NAME=value` in front."""
    found = []
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = next((place for place, word in enumerate(words) if word in SEPARATORS), len(words))
            found.append(list(dropwhile(re.compile(r"[A-Z_]+=").match, words[:end])))
            words = words[end + 1 :]
    return [command for command in found if command]


class Parsed(BaseException):
    """Ends a script behind its command line; nothing in a script catches it."""


def parse_script(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a script read its command line and do nothing else.

    Args:
        words: The script's path and its arguments.
        monkeypatch: Undone by the caller.
    """
    original = argparse.ArgumentParser.parse_args

    def parse_args(self, args=None, namespace=None):
        try:
            original(self, args, namespace)
        except (SystemExit, UserError) as error:
            raise AssertionError(f"{' '.join(words)}: {error}") from error
        raise Parsed

    def invoke(self, context):
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(typer.core.TyperCommand, "invoke", invoke)
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    with pytest.raises(Parsed):
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")


def parse_command(words: list[str]) -> None:
    """Reads the command line of `visual-sentence` down its tree of commands."""
    target = typer.main.get_command(app)
    context = target.context_class(target)
    while hasattr(target, "commands"):
        assert words and words[0] in target.commands, f"visual-sentence has no command {' '.join(words[:1])}"
        _, target, words = target.resolve_command(context, words)
        context = target.context_class(target, parent=context)
    target.parse_args(context, list(words))


def test_every_page_is_in_the_navigation():
    listed = named(SITE["nav"])
    assert len(listed) == len(set(listed)), "a page stands twice in the navigation"
    inside = {path.relative_to(DOCS).as_posix() for path in PAGES}
    assert inside - set(listed) == set(), "pages that nobody finds"
    for path in set(listed) - inside:
        assert (ROOT / ELSEWHERE.get(path, path)).is_file(), f"{path} is in the navigation and nowhere else"


def test_pages_from_outside_are_those_of_the_hook():
    tree = ast.parse((DOCS / "site_hooks.py").read_text(encoding="utf-8"))
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert {new: old for old, new in ast.literal_eval(values["PAGES"]).items()} == ELSEWHERE


@pytest.mark.parametrize("page", [*PAGES, *TOP], ids=name_of)
def test_links_and_pictures_lead_somewhere(page):
    for link in re.findall(r"\]\(<?([^)>\s]+)>?[^)]*\)", outside_code(page)):
        if re.match(r"\w+:", link) or link.startswith("#"):
            continue
        target = page.parent / unquote(link.partition("#")[0])
        assert target.exists(), f"{name_of(page)} links {link}"
        assert target.resolve().is_relative_to(ROOT), f"{name_of(page)} links {link}, which is outside the repository"


@pytest.mark.parametrize("page", NEW, ids=name_of)
def test_pictures_are_small(page):
    for link in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.endswith(".png"):
            assert (page.parent / link).stat().st_size <= 200_000, link


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=name_of)
def test_commands_parse(page, monkeypatch):
    for words in commands(page):
        if words[0] == "visual-sentence":
            parse_command(words[1:])
        place = next((place for place, word in enumerate(words) if re.fullmatch(r"scripts/\w+\.py", word)), None)
        if place is None:
            continue
        if words[0] == "accelerate":
            options = launch_command_parser().parse_args(words[2:])
            assert options.training_script == words[place]
            assert options.config_file is None or (ROOT / options.config_file).is_file(), options.config_file
        with monkeypatch.context() as patched:
            parse_script(words[place:], patched)


@pytest.mark.parametrize("page", NEW, ids=name_of)
def test_files_of_the_repository_exist(page):
    for path in re.findall(r"\b(?:hub_configs|scripts)/[\w./-]*\w", "\n".join(blocks(page, "bash"))):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=name_of)
def test_python_compiles_and_what_it_imports_is_there(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block, str(page))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "visual_sentence":
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


@pytest.mark.parametrize("page", sorted((DOCS / "reference").glob("*.md")), ids=name_of)
def test_what_the_reference_describes_is_there(page):
    names = re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert names or page.name in ("index.md", "public.md")
    assert len(names) == len(set(names))
    for name in names:
        module, _, attribute = name.rpartition(".")
        found = getattr(importlib.import_module(module), attribute)
        assert found.__doc__, name


def test_the_citation_can_be_read():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type", "version", "license", "references"} <= set(citation)
    assert all(set(author) & {"name", "family-names"} for author in citation["authors"])
    assert len(citation["references"]) == 2
    for paper in citation["references"]:
        assert {"type", "title", "authors"} <= set(paper)
    declared = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert str(citation["version"]) == declared[1]


def test_the_changelog_names_the_version_or_what_is_to_come():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[([^\]]+)\]", text, re.MULTILINE)
    assert versions and (versions[0] == "Unreleased" or versions[0][0].isdigit())
    assert set(re.findall(r"^### (\w+)", text, re.MULTILINE)) <= {
        *("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    }


class Fetched(HTMLParser):
    """Collects what a browser fetches to show a page: scripts, styles, fonts, pictures; not what is only linked."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside_style = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.inside_style = tag == "style"
        self.read_style(values.get("style", ""))
        if tag == "link" and FETCHING_RELATIONS & set(values.get("rel", "").split()):
            self.found.append(values.get("href", ""))
        elif tag in ("script", "img", "iframe", "source", "video", "audio", "embed"):
            self.found.append(values.get("src", ""))
        if "mermaid" in values.get("class", "").split():
            self.found.extend(MERMAID)

    def handle_endtag(self, tag: str) -> None:
        self.inside_style = False

    def handle_data(self, data: str) -> None:
        if self.inside_style:
            self.read_style(data)

    def read_style(self, text: str) -> None:
        """Finds what a style sheet fetches."""
        found = re.findall(r"url\(\s*([\"']?)(.*?)\1\s*\)|@import\s+([\"'])(.*?)\3", text)
        self.found.extend(address or imported for _, address, _, imported in found)


def missing_packages() -> list[str]:
    """What the site is made with and is not installed."""
    missing = []
    for name in SITE_PACKAGES:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:  # of a parent
            found = None
        if found is None:
            missing.append(name)
    return missing


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The site, built as strictly as it is published."""
    missing = missing_packages()
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (pip install 'visual-sentence[docs]')")
    folder = tmp_path_factory.mktemp("built") / "site"
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_the_site_builds_without_a_warning(built):
    reference = (built / "reference" / "models" / "index.html").read_text(encoding="utf-8")
    assert "visual_sentence.modeling.V2LModel" in reference
    assert (built / "contributing" / "index.html").is_file()


@pytest.mark.slow
def test_the_site_fetches_nothing_from_other_hosts(built):
    pages, sheets = sorted(built.rglob("*.html")), sorted(built.rglob("*.css"))
    assert len(pages) > len(PAGES) and sheets
    elsewhere = []
    for path in [*pages, *sheets]:
        reader, text = Fetched(), path.read_text(encoding="utf-8")
        if path.suffix == ".css":
            reader.read_style(text)
        else:
            reader.feed(text)
            assert any(address.endswith(".js") for address in reader.found), f"{path}: not even the theme's script"
        elsewhere += [(path.relative_to(built).as_posix(), name) for name in reader.found if OTHER_HOST.match(name)]
    assert elsewhere == []


def test_what_a_page_fetches_is_found():
    reader = Fetched()
    reader.feed(
        """<link href="//a.org/x.css" rel="stylesheet"><link rel="canonical" href="//no.org"><a href="//no.org">
        <script src=https://b.org/x.js></script><img src="here.png"><style>@import "//c.org/x.css";</style>
        <p style="background: url('https://d.org/x.png')"><pre class="code mermaid"></pre>"""
    )
    found = {address for address in reader.found if OTHER_HOST.match(address)}
    assert found == {"//a.org/x.css", "https://b.org/x.js", "//c.org/x.css", "https://d.org/x.png", *MERMAID}
