"""A virtual environment in which everything is installed that this one has, and the package is not.

Made without a network: its site-packages get a `.pth` file that names those of the running interpreter. Python reads
the `.pth` files of its own site-packages only, and not those of folders that such a file names, so an editable
installation of the package stays out of sight; a regular one would not, and is refused.
"""

import os
import subprocess
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
    ) -> subprocess.CompletedProcess:
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


def make_environment(folder: Path) -> FreshEnvironment:
    """Makes the environment and sees to it that the package cannot be imported in it.

    Args:
        folder: Where; it does not exist yet.

    Raises:
        RuntimeError: If the package can be imported there.
    """
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    made = FreshEnvironment(folder, folder)
    asked = made.run(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder)
    made = replace(made, site_packages=Path(asked.stdout.strip()))
    ours = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (made.site_packages / "everything_else.pth").write_text("".join(f"{path}\n" for path in ours), encoding="utf-8")
    for package in PACKAGES:
        found = made.run(["-c", f"import {package}; print({package}.__file__)"], folder)
        if found.returncode == 0 or f"No module named '{package}'" not in found.stderr:
            raise RuntimeError(
                f"{package} can be imported in the fresh environment ({(found.stdout or found.stderr).strip()}), so "
                "nothing could be shown there: install it editable (pip install --editable)."
            )
    return made
