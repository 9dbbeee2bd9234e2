"""One published checkpoint to one folder that `AutoModel` loads."""

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..progress import progress_bar
from .amused import read_amused
from .checkpoints import sha256
from .delvm import read_delvm
from .folders import check_output, new_folder
from .lvm import read_lvm
from .muse import read_muse
from .plan import Options, Plan
from .taming import read_taming
from .transfer import Transfer, transfer
from .v2l import read_v2l

REPORT_FILE = "conversion.json"
READERS: dict[str, Callable[[str, Options], Plan]] = {
    "v2l": read_v2l,
    "taming": read_taming,
    "muse": read_muse,
    "amused": read_amused,
    "lvm": read_lvm,
    "delvm": read_delvm,
}
# which of the options say something about a kind of source
OF_V2L = ("image_size", "local_only", "encoder", "global_words", "language_model")
OF_VQGAN = ("config", "image_size")
OF_LANGUAGE_MODEL = ("config", "vqgan")
MEANINGFUL = {"v2l": OF_V2L, "lvm": OF_LANGUAGE_MODEL, "delvm": OF_LANGUAGE_MODEL}
FLAGS = {"language_model": "--llm"}


@torch.no_grad()
def convert_checkpoint(source: str, kind: str, output: str | Path, options: Options | None = None) -> dict[str, Any]:
    """Writes a published checkpoint as a model folder of ours.

    The folder holds the weights as safetensors, the configuration, the code, the image processor and
    `conversion.json`. It appears when everything is done, and not at all if anything fails.

    Args:
        source: A file or folder; for "muse", "amused", "lvm" and "delvm" also a Hub id.
        kind: "v2l", "taming", "muse", "amused", "lvm" or "delvm".
        output: The new folder; must not exist, or be empty.
        options: What else the user says.

    Returns:
        What `conversion.json` says: `source` (the file of weights), `from`, `sha256` (of several files by their
        names), `source_config`, `config`, `used` (our tensor to theirs), `left_out` (their tensor to the reason) and
        `notes`.

    Raises:
        UserError: If the source is not of that kind, a tensor is missing, ill-shaped or unexpected, an option is not
            for that kind, or the result cannot be written.
    """
    options = options or Options()
    _check_options(kind, options)
    output = Path(output).expanduser()
    check_output(output)  # before a long read
    with progress_bar(f"reading {source}", total=None):
        plan = READERS[kind](source, options)
    done = transfer(plan.tensors, plan.model, plan.rules, plan.left_out, str(plan.weights), plan.elsewhere)
    plan.finish(plan.model)
    with new_folder(output) as folder, progress_bar(f"writing {output}", total=None):
        plan.model.save_pretrained(folder)
        plan.processor.save_pretrained(folder)
        report = _report(kind, plan, done)
        text = json.dumps(report, indent=1, ensure_ascii=False, default=str)
        (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")
    return report


def _check_options(kind: str, options: Options) -> None:
    """Refuses an unknown kind, and options that would have no effect on a known one.

    Raises:
        UserError: If there is one.
    """
    if kind not in READERS:
        raise UserError(f"Unknown source {kind!r}: choose one of {', '.join(READERS)}.")
    own = MEANINGFUL.get(kind, OF_VQGAN)
    given = [field.name for field in fields(options) if field.name not in own and getattr(options, field.name)]
    if given:
        flag = FLAGS.get(given[0], f"--{given[0].replace('_', '-')}")
        raise UserError(f"{flag} has no meaning for a checkpoint of {kind}: leave it out.")
    if "vqgan" in own and options.vqgan is None:
        raise UserError(
            f"A checkpoint of {kind} is a language model alone, which can neither read nor draw a picture: give "
            "--vqgan, the folder of its VQGAN."
        )


def _report(kind: str, plan: Plan, done: Transfer) -> dict[str, Any]:
    """What became of a source, as JSON values."""
    digests = {file.name: sha256(file) for file in (plan.weights, *plan.parts)}
    return {
        "source": plan.weights.name,
        "from": kind,
        "sha256": digests if plan.parts else digests[plan.weights.name],
        "source_config": dict(plan.settings),
        "config": json.loads(plan.model.config.to_json_string()),
        "used": done.used,
        "left_out": done.left_out,
        "notes": list(plan.notes),
    }


__all__ = ["READERS", "REPORT_FILE", "convert_checkpoint"]
