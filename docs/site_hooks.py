"""Hooks of mkdocs.yml: pages may link what lies beside docs/, and the reference reads the package as one tree.

The pages are read on GitHub too, so their links are those of the repository. A file outside of docs/ that a page links
is brought into the site under its path in the repository, a folder becomes a list of its files, and CHANGELOG.md and
CONTRIBUTING.md become pages; links are rewritten to where these are in the site.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# In the repository -> in the site.
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(\]\()(?!\w+:|#|/)([^)#\s]+)")
# The packages of pyproject.toml that lie outside of src/.
OUTSIDE = ("modeling", "hub_configs")
_tree: tempfile.TemporaryDirectory[str] | None = None


@event_priority(100)  # before mkdocstrings reads its settings
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Gives mkdocstrings a folder in which the package lies as it does where it is installed."""
    global _tree
    _tree = tempfile.TemporaryDirectory(prefix="visual-sentence-docs-")
    package = Path(_tree.name) / "visual_sentence"
    package.mkdir()
    for path in (ROOT / "src" / "visual_sentence").iterdir():
        (package / path.name).symlink_to(path)
    for name in OUTSIDE:
        (package / name).symlink_to(ROOT / name)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_tree.name]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Brings in what the pages link outside of docs/, and what that links in its turn."""
    docs = Path(config.docs_dir).resolve()
    wanted = [ROOT / name for name in PAGES]
    waiting = [*docs.rglob("*.md"), *wanted, *(ROOT / path for path in _named(config.nav) if (ROOT / path).is_file())]
    seen = set()
    while waiting:
        path = waiting.pop().resolve()
        if path in seen:
            continue
        seen.add(path)
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.is_file())
            files.append(File.generated(config, site_path(path), content=listing(path, inside)))
            waiting.extend(inside)
        elif not path.is_relative_to(docs):
            files.append(File.generated(config, site_path(path), abs_src_path=str(path)))
        if path.suffix == ".md":
            waiting.extend(linked_files(path))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Rewrites links that leave docs/."""
    if page.file.abs_src_path is None:  # a list of files
        return markdown
    source = Path(page.file.abs_src_path).resolve()

    def rewrite(match: re.Match[str]) -> str:
        target = (source.parent / match[2]).resolve()
        if not is_in_repository(target):
            return match[0]
        return match[1] + os.path.relpath(site_path(target), Path(page.file.src_uri).parent)

    return LINK.sub(rewrite, markdown)


def on_post_build(**_: Any) -> None:
    """Takes the tree away."""
    if _tree is not None:
        _tree.cleanup()


def linked_files(page: Path) -> list[Path]:
    """The files and folders of the repository that a page links."""
    found = (page.parent / link for _, link in LINK.findall(page.read_text(encoding="utf-8")))
    return [path.resolve() for path in found if is_in_repository(path.resolve())]


def is_in_repository(path: Path) -> bool:
    """Whether this is a file or a folder that the site may show."""
    return path.exists() and path.is_relative_to(ROOT) and path != ROOT


def site_path(path: Path) -> str:
    """Where a file of the repository lies in the site; of a folder the page that lists its files."""
    inside = path.relative_to(ROOT).as_posix()
    found = PAGES.get(inside, inside.removeprefix("docs/"))
    return f"{found}/index.md" if path.is_dir() else found


def listing(folder: Path, inside: list[Path]) -> str:
    """The page of a folder."""
    lines = [f"- [{file.name}]({file.name})" for file in inside]
    return "\n".join([f"# {folder.relative_to(ROOT).as_posix()}", "", *lines]) + "\n"


def _named(nav: Any) -> list[str]:
    """Every path of the navigation."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav or []
    return [path for part in parts for path in _named(part)]
