"""`VQModel` folders of diffusers, as aMUSEd uses them: on images in [0, 1].

The range is that of diffusers' own pipelines (pipelines/deprecated/amused, version 0.42): they put
`VaeImageProcessor(do_normalize=False)` before the encoder and clip what the decoder gives to [0, 1].
"""

from pathlib import Path

from ..errors import UserError
from .checkpoints import pick_weights, read_checkpoint
from .folders import locate
from .plan import Options, Plan
from .settings import Settings
from .tables import DIFFUSERS, LEARNED_CODEBOOK
from .vqgan import vqgan_plan

FILES = ("diffusion_pytorch_model.safetensors", "*.safetensors", "diffusion_pytorch_model.bin", "*.bin")
# by their whole names: in a Hub's pattern a star goes into folders, too
HUB_FILES = ("config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
# the autoencoder inside a pipeline's folder, and the file there that knows the size of the images
PIPELINE_PART = "vqvae"
PIPELINE_CONFIG = "transformer/config.json"
DEFAULT_IMAGE_SIZE = 256
# each with whether it has attention
DOWN_BLOCKS = {"DownEncoderBlock2D": False, "AttnDownEncoderBlock2D": True}
UP_BLOCKS = {"UpDecoderBlock2D": False, "AttnUpDecoderBlock2D": True}


def read_amused(reference: str, options: Options) -> Plan:
    """Reads a `VQModel` of diffusers.

    Args:
        reference: Its folder, the folder of a whole aMUSEd pipeline, the file of weights, or a Hub id.
        options: `config` and `image_size` matter. The model does not know how large its images are; a pipeline does,
            otherwise 256 is taken.

    Raises:
        UserError: If files are missing or damaged, or the model is built in a way ours is not.
    """
    path = locate(reference, (*HUB_FILES, *(f"{PIPELINE_PART}/{name}" for name in HUB_FILES), PIPELINE_CONFIG))
    if (path / PIPELINE_PART).is_dir():
        path = path / PIPELINE_PART
    weights = path if path.is_file() else pick_weights(path, FILES)
    settings = Settings.read(options.config or weights.parent / "config.json")
    settings.require("_class_name", "VQModel", "VQModel", "the class")
    settings.require("norm_type", "group", "group", "how the decoder normalises")
    settings.require("act_fn", "silu", "silu", "activation")
    for name in ("in_channels", "out_channels"):
        settings.require(name, 3, 3, "channels of the images")
    # the defaults are those of the source's class, for configurations that leave them out
    channels = settings.integers("block_out_channels", default=(64,))
    latent_channels = settings.integer("latent_channels", default=3)
    attention = _attention_levels(settings, len(channels))
    tensors, _ = read_checkpoint(weights)
    return vqgan_plan(
        weights,
        tensors,
        settings,
        (*DIFFUSERS, *LEARNED_CODEBOOK),
        image_size=options.image_size or _image_size(weights.parent, 2 ** (len(channels) - 1)),
        block_out_channels=channels,
        layers_per_block=settings.integer("layers_per_block", default=1),
        latent_channels=latent_channels,
        codebook_size=settings.integer("num_vq_embeddings", default=256),
        codebook_dim=settings.integer("vq_embed_dim", default=latent_channels),
        norm_num_groups=settings.integer("norm_num_groups", default=32),
        mid_block_attention=settings.flag("mid_block_add_attention", default=True),
        attention_levels=attention,
        value_range="unit",
    )


def _attention_levels(settings: Settings, levels: int) -> list[int]:
    """The levels whose blocks have attention.

    Raises:
        UserError: If there are other blocks, or encoder and decoder are no mirrors.
    """
    down = settings.values.get("down_block_types", ["DownEncoderBlock2D"])
    up = settings.values.get("up_block_types", ["UpDecoderBlock2D"])
    for name, known in [(name, DOWN_BLOCKS) for name in down] + [(name, UP_BLOCKS) for name in up]:
        if name not in known:
            raise UserError(f"{settings.path} asks for a {name}, but only {' and '.join(known)} can be converted.")
    attention = [level for level, name in enumerate(down) if DOWN_BLOCKS[name]]
    mirrored = [level for level, name in enumerate(reversed(up)) if UP_BLOCKS[name]]
    if not len(down) == len(up) == levels or attention != mirrored:
        raise UserError(
            f"{settings.path} has {levels} widths, the encoder {', '.join(down)}, the decoder {', '.join(up)}: only a "
            "decoder that mirrors its encoder can be converted."
        )
    return attention


def _image_size(folder: Path, factor: int) -> int:
    """Side of the images in pixels."""
    beside = folder.parent / PIPELINE_CONFIG
    if folder.name == PIPELINE_PART and beside.is_file():
        return Settings.read(beside).integer("sample_size") * factor
    return DEFAULT_IMAGE_SIZE


__all__ = ["read_amused"]
