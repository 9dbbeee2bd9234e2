"""The VQGAN that a published model of visual sentences goes with: a folder of ours, openMUSE's, or diffusers'."""

from pathlib import Path

import torch
from transformers import AutoModel

from ..errors import UserError
from ..modeling import VQGANConfig, VQGANModel
from ..references import LOADING_ERRORS, unreachable
from .amused import read_amused
from .folders import locate
from .muse import HUB_FILES, read_muse
from .plan import Options
from .settings import Settings
from .transfer import transfer

# by what their configurations call themselves
READERS = {"VQGANModel": read_muse, "VQModel": read_amused}


@torch.no_grad()
def open_vqgan(reference: str) -> VQGANModel:
    """A VQGAN in our form, in single precision.

    Args:
        reference: A folder of ours, of openMUSE's layout (LVM, DeLVM) or diffusers' `VQModel`, or a Hub id of one.

    Raises:
        UserError: If there is none, or it cannot be read.
    """
    path = locate(reference, HUB_FILES)
    folder = path.parent if path.is_file() else path
    settings = Settings.read(folder / "config.json")
    if settings.values.get("model_type") == VQGANConfig.model_type:
        return _load(reference, folder)
    kind = settings.values.get("_class_name")
    if kind not in READERS:
        found = settings.values.get("model_type") or kind
        raise UserError(
            f"{reference} describes a {found!r}, which is no VQGAN that can be read (ours, openMUSE's VQGANModel, "
            "diffusers' VQModel): give --vqgan the image model that the language model was trained with."
        )
    plan = READERS[kind](str(path), Options())
    transfer(plan.tensors, plan.model, plan.rules, plan.left_out, str(plan.weights), plan.elsewhere)
    assert isinstance(plan.model, VQGANModel)  # all of `READERS` make one
    return plan.model


def _load(reference: str, folder: Path) -> VQGANModel:
    try:
        return AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error


__all__ = ["open_vqgan"]
