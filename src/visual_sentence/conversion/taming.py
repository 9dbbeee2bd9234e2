"""VQGANs of taming-transformers: a Lightning checkpoint and the yaml that it was trained with, on images in [-1, 1]."""

from pathlib import Path

from ..errors import UserError
from .checkpoints import pick_weights, read_checkpoint
from .folders import locate
from .plan import Options, Plan
from .settings import Settings
from .tables import LEARNED_CODEBOOK, TAMING
from .vqgan import levels_of_resolutions, vqgan_plan

FILES = ("*.safetensors", "last.ckpt", "*.ckpt", "*.pth", "*.pt", "checkpoints/last.ckpt")
# where the run that wrote the checkpoint, and the published archives, keep the yaml: beside it, or in `configs`
CONFIG_PLACES = ((".", "*"), ("../configs", "model"), ("../configs", "*-project"))
LEFT_OUT = {"loss.": "training only: discriminator and LPIPS"}


def read_taming(reference: str, options: Options) -> Plan:
    """Reads a VQGAN of taming-transformers.

    Args:
        reference: The checkpoint or the folder that holds it.
        options: `config` and `image_size` matter.

    Raises:
        UserError: If files are missing or damaged, or the model is of another kind (Gumbel quantizer, other channels).
    """
    path = locate(reference)
    weights = path if path.is_file() else pick_weights(path, FILES)
    settings = Settings.read(options.config or find_config(weights))
    target = str(settings.part("model").values.get("target", ""))
    if "Gumbel" in target:
        raise UserError(f"{settings.path} describes a {target}, whose codes are not nearest entries: not supported.")
    params = settings.part("model").part("params")
    params.require("remap", None, None, "a file that renumbers the codebook")
    layers = params.part("ddconfig")
    layers.require("double_z", False, True, "means and deviations instead of latents")
    layers.require("resamp_with_conv", True, True, "how sizes are halved and doubled")
    for name in ("in_channels", "out_ch"):
        layers.require(name, 3, None, "channels of the images")
    tensors, _ = read_checkpoint(weights, ("state_dict", "model"))
    resolution, factors = layers.integer("resolution"), layers.integers("ch_mult")
    attended = layers.integers("attn_resolutions")
    return vqgan_plan(
        weights,
        tensors,
        settings,
        (*TAMING, *LEARNED_CODEBOOK),
        LEFT_OUT,
        image_size=options.image_size or resolution,
        block_out_channels=[layers.integer("ch") * factor for factor in factors],
        layers_per_block=layers.integer("num_res_blocks"),
        latent_channels=layers.integer("z_channels"),
        codebook_size=params.integer("n_embed"),
        codebook_dim=params.integer("embed_dim"),
        mid_block_attention=True,
        attention_levels=levels_of_resolutions(resolution, attended, len(factors)),
        value_range="symmetric",
    )


def find_config(weights: Path) -> Path:
    """The yaml that belongs to a checkpoint.

    Raises:
        UserError: If there is none, or several and none has the checkpoint's name or is called model.yaml.
    """
    for place, stem in CONFIG_PLACES:
        folder = weights.parent / place
        found = sorted(path for ending in ("yaml", "yml") for path in folder.glob(f"{stem}.{ending}"))
        named = [path for path in found if path.stem in ("model", weights.stem)] or found
        if len(named) == 1:
            return named[0]
        if named:
            listed = ", ".join(path.name for path in named[:5])
            raise UserError(f"{folder} holds several yaml files ({listed}): say with --config which one belongs to it.")
    raise UserError(f"There is no yaml beside {weights}, which says how the model is built: give it with --config.")


__all__ = ["read_taming"]
