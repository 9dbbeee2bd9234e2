"""Checks the types of the package and the command with pyrefly.

    python scripts/check_types.py

modeling/ lies beside src/, as its files are pushed to the Hub next to models, and is visual_sentence.modeling once
installed: what is checked is a copy laid out as installed. Messages name the files of the repository. The exit status
is pyrefly's: 0 where nothing is wrong.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Folder of the repository -> where it is installed.
PACKAGES = {
    "src/visual_sentence": "src/visual_sentence",
    "src/visual_sentence_cli": "src/visual_sentence_cli",
    "modeling": "src/visual_sentence/modeling",
    "hub_configs": "src/visual_sentence/hub_configs",
}
# Kinds of messages that are off, each with the reason.
OFF = {
    "bad-override": "metrics, pipelines and transformers' classes name what each takes, where the base takes anything",
    "bad-override-mutable-attribute": "models and pipelines say which config and image processor they have",
    "unnecessary-type-conversion": "int() and str() make plain values of enums, numpy's numbers and versions",
    "untyped-import": "yaml and scipy come without annotations",
}
# Packages that are used where they are there, and that no extra brings.
OPTIONAL = ("deepspeed.*", "torch_fidelity.*")
# One version for whatever Python runs the check, as the messages differ between them.
PYTHON_VERSION = "3.11"


def settings() -> str:
    """pyrefly.toml of the copy."""
    lines = [
        'preset = "default"',
        'search-path = ["src"]',
        'project-includes = ["src"]',
        f"python-version = {json.dumps(PYTHON_VERSION)}",
        f"python-interpreter-path = {json.dumps(sys.executable)}",
        f"ignore-missing-imports = {json.dumps(OPTIONAL)}",
        "",
        "[errors]",
        *(f"{kind} = false" for kind in OFF),
    ]
    return "\n".join(lines) + "\n"


def lay_out(folder: Path) -> None:
    """Copies the Python files to where they are installed, with the settings beside them."""
    for source, target in PACKAGES.items():
        for path in (ROOT / source).rglob("*.py"):
            copy = folder / target / path.relative_to(ROOT / source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    (folder / "pyrefly.toml").write_text(settings(), encoding="utf-8")


def in_repository(path: str) -> str:
    """The repository's name of a file of the copy."""
    for source, target in sorted(PACKAGES.items(), key=lambda item: -len(item[1])):
        if path.startswith(f"{target}/"):
            return source + path.removeprefix(target)
    return path


def check() -> tuple[int, list[str]]:
    """pyrefly's exit status, and a line for every message."""
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder))
        command = [sys.executable, "-m", "pyrefly", "check", "--output-format", "json", "--summary=none"]
        done = subprocess.run(
            [*command, "--min-severity", "warn"], cwd=folder, capture_output=True, encoding="utf-8", check=False
        )
    try:
        found = json.loads(done.stdout)["errors"]
    except ValueError:  # it did not come to checking
        return done.returncode or 1, [done.stderr.strip()]
    return done.returncode, [
        f"{in_repository(message['path'])}:{message['line']}: [{message['name']}] {message['description']}"
        for message in found
    ]


def main() -> int:
    """Checks, and says what is wrong."""
    status, messages = check()
    for message in messages:
        sys.stdout.write(f"{message}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
