"""Whether an assembled folder loads where this package is not installed: tried out in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..progress import progress_bar

SCRIPT = """
import importlib.abc, json, sys

class NoPackage(importlib.abc.MetaPathFinder):  # as on a machine where it is not installed
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "visual_sentence":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, NoPackage())

def load(folder, processor_class):
    import transformers
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    trusting = {"trust_remote_code": True}
    model, info = transformers.AutoModel.from_pretrained(folder, output_loading_info=True, **trusting)
    for kind in ("missing_keys", "mismatched_keys"):
        odd = sorted(map(str, info.get(kind) or ()))
        if odd:
            raise ValueError(f"{len(odd)} of {kind.replace('_', ' ')} of weights, the first is {odd[0]}")
    if not processor_class:
        return model
    processor = getattr(transformers, processor_class).from_pretrained(folder, **trusting)
    images = transformers.AutoImageProcessor.from_pretrained(folder, **trusting)
    for task, entry in (getattr(model.config, "custom_pipelines", None) or {}).items():
        implementation = get_class_from_dynamic_module(entry["impl"], folder)
        implementation(model=model, image_processor=images, task=task, device="cpu")
    return processor

try:
    load(*sys.argv[1:])
    found = {"error": None}
except Exception as error:
    found = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
print(json.dumps(found))
"""
SHOWN = 400
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE")


def check_loads(folder: str | Path, processor_class: str | None) -> None:
    """Loads a model folder with the code in it, and without this package: model, processor, every pipeline.

    Args:
        folder: What `assemble_repository` wrote.
        processor_class: "AutoProcessor", "AutoImageProcessor", or None for a model without.

    Raises:
        UserError: If it does not load, or loads with weights missing.
    """
    with tempfile.TemporaryDirectory() as modules, progress_bar("loading it without visual-sentence", total=None):
        environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(Path(folder).absolute()), processor_class or ""],
            capture_output=True,
            text=True,
            # away from any checkout, whose folders could be imported
            cwd=modules,
            env={**environment, "HF_MODULES_CACHE": modules, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
            check=False,
        )
    said = _answer(done)
    if said is not None:
        raise UserError(
            f"It would not load where visual-sentence is not installed, so it was not uploaded ({said[:SHOWN]}): mend "
            "the model folder, or give --no-check to upload it as it is."
        )


def _answer(done: subprocess.CompletedProcess) -> str | None:
    """What went wrong, in the process's own words; None if nothing did."""
    lines = done.stdout.strip().splitlines()
    try:
        found: dict[str, Any] = json.loads(lines[-1])
        return found["error"]
    except (IndexError, ValueError, TypeError, KeyError):
        last = done.stderr.strip().splitlines()[-1:]
        return f"the process ended with {done.returncode}: {' '.join(last)}"


__all__ = ["check_loads"]
