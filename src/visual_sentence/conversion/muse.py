"""The VQGAN of openMUSE, which LVM and DeLVM use: `config.json` and weights, on images in [0, 1].

Sources: huggingface/open-muse, muse/modeling_taming_vqgan.py; ytongbai/LVM, evaluation/vqlm_demo/vqvae_muse.py.
"""

from .checkpoints import pick_weights, read_checkpoint
from .folders import locate
from .plan import Options, Plan
from .settings import Settings
from .tables import LEARNED_CODEBOOK, TAMING
from .vqgan import LEGACY_BETA, levels_of_resolutions, vqgan_plan

FILES = ("*.safetensors", "pytorch_model.bin", "*.bin")
# by their whole names: in a Hub's pattern a star goes into folders, too
HUB_FILES = ("config.json", "model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin")
UNKNOWN_DECODERS = ("decoder_res_blocks", "extra_mid_res_blocks", "decoder_hidden_channels", "decoder_channel_mult")


def read_muse(reference: str, options: Options) -> Plan:
    """Reads a VQGAN of openMUSE.

    Args:
        reference: The folder, its file of weights, or a Hub id.
        options: `config` and `image_size` matter.

    Raises:
        UserError: If files are missing or damaged, or the model is of another kind.
    """
    path = locate(reference, HUB_FILES)
    weights = path if path.is_file() else pick_weights(path, FILES)
    settings = Settings.read(options.config or weights.parent / "config.json")
    settings.require("_class_name", "VQGANModel", "VQGANModel", "the class")
    settings.require("resample_with_conv", True, True, "how sizes are halved and doubled")
    settings.require("num_channels", 3, 3, "channels of the images")
    for name in UNKNOWN_DECODERS:
        settings.require(name, None, None, "a decoder that is not the encoder's mirror")
    # the defaults are those of the source's class, for configurations that leave them out
    attended = settings.integers("attn_resolutions", default=(16,))
    blocks = settings.integer("num_res_blocks", default=2)
    if blocks == 1:
        # the source then holds attention layers in its encoder, but passes them by
        settings.require("attn_resolutions", [], [16], "with num_res_blocks 1")
    tensors, _ = read_checkpoint(weights)
    resolution = settings.integer("resolution", default=256)
    channels = settings.integer("hidden_channels", default=128)
    factors = settings.integers("channel_mult", default=(1, 1, 2, 2, 4))
    return vqgan_plan(
        weights,
        tensors,
        settings,
        (*TAMING, *LEARNED_CODEBOOK),
        image_size=options.image_size or resolution,
        block_out_channels=[channels * factor for factor in factors],
        layers_per_block=blocks,
        latent_channels=settings.integer("z_channels", default=256),
        codebook_size=settings.integer("num_embeddings", default=1024),
        codebook_dim=settings.integer("quantized_embed_dim", default=256),
        mid_block_attention=not settings.flag("no_attn_mid_block", default=False),
        attention_levels=levels_of_resolutions(resolution, attended, len(factors)),
        codebook_loss_weight=settings.number("commitment_cost", default=LEGACY_BETA),
        value_range="unit",
    )


__all__ = ["read_muse"]
