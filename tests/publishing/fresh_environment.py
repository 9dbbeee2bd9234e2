"""A virtual environment in which everything is installed that this one has, and the package is not.

Made without a network: its site-packages get a `.pth` file that names those of the running interpreter. Python reads
the `.pth` files of its own site-packages only, and not those of folders that such a file names, so an editable
installation of the package stays out of sight; a regular one would not, and is refused.
"""

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

PACKAGES = ("visual_sentence", "visual_sentence_cli")
# What a user's shell has nothing of.
UNSET = ("HF_TOKEN", "HF_ENDPOINT", "HF_HOME", "HF_MODULES_CACHE", "PYTHONPATH", "PYTHONSTARTUP")


@dataclass(frozen=True)
class FreshEnvironment:
    """A virtual environment.

    Args:
        folder: Where it lies.
        site_packages: Where what is installed in it lies.
    """

    folder: Path
    site_packages: Path

    def script(self, name: str) -> Path:
        """The place of a program of the environment."""
        return self.folder / ("Scripts" if os.name == "nt" else "bin") / name

    def run(
        self,
        arguments: Sequence[str],
        place: Path,
        environment: Mapping[str, str] | None = None,
        program: str = "python",
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program of the environment, whose caches are in the folder that it runs in.

        Args:
            arguments: Of the program.
            place: Where it runs.
            environment: What is added to the environment's variables.
            program: Its name.
        """
        kept = {name: value for name, value in os.environ.items() if name not in UNSET}
        return subprocess.run(
            [str(self.script(program)), *arguments],
            capture_output=True,
            text=True,
            cwd=place,
            env={**kept, "HF_HOME": str(place / "home"), "VIRTUAL_ENV": str(self.folder), **(environment or {})},
            check=False,
        )


def make_environment(folder: Path, wheel: Path | None = None) -> FreshEnvironment:
    """Makes the environment and sees to it that it holds the package only if a wheel is given, and then that one.

    Args:
        folder: Where; it does not exist yet.
        wheel: What is installed in it, without what it depends on.

    Raises:
        RuntimeError: If the package is found there, or is not of the wheel.
    """
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    made = FreshEnvironment(folder, folder)
    asked = made.run(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder)
    made = replace(made, site_packages=Path(asked.stdout.strip()))
    if wheel is not None:  # before the rest is in sight, or pip would find the package there
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(made.script("python")),
            "install",
            "--no-deps",
            "--no-index",
        ]
        subprocess.run([*pip, "--disable-pip-version-check", "--quiet", str(wheel)], check=True)
    ours = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (made.site_packages / "everything_else.pth").write_text("".join(f"{path}\n" for path in ours), encoding="utf-8")
    expected = "None" if wheel is None else str(made.site_packages)
    for package in PACKAGES:
        code = f"from importlib.util import find_spec; found = find_spec({package!r}); print(found and found.origin)"
        found = made.run(["-c", code], folder).stdout.strip()
        if not found.startswith(expected):
            raise RuntimeError(
                f"{package} is found at {found} in the fresh environment, so nothing could be shown there: "
                "install it editable (pip install --editable)."
            )
    return made
