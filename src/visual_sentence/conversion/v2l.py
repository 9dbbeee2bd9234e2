"""The published V2L Tokenizer: one state dict whose shapes tell everything, on images in [-1, 1].

Source: zh460045050/V2L-Tokenizer, models/models_v2l.py and models/encoder_decoder.py (facts only; it has no licence).
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..encoders import JointEncoder, load_joint_encoder
from ..errors import UserError
from ..language import load_text_tokenizer
from ..modeling import LocalVocabulary, V2LConfig, V2LImageProcessor, V2LModel, V2LProcessor, WordVocabulary
from .checkpoints import pick_weights, read_checkpoint
from .folders import locate
from .plan import Options, Plan, checked_config
from .tables import CLIP, V2L
from .words import global_vocabulary, local_vocabulary, read_words

FILES = ("*.safetensors", "*.pth", "*.pt", "*.ckpt", "*.bin")
LEFT_OUT = {
    "discriminator.": "training only: discriminator",
    "perceptual_loss.": "training only: LPIPS",
}
TOWER = "global_encoder."
# what the published code fixes, or does unless it is told otherwise
IMAGE_SIZE = 128
GLOBAL_TOKENS = 21
CODEBOOK_LOSS_WEIGHT = 0.33
NORMALIZED_WIDTH = 768
CLIP_HEAD_WIDTH = 64
# the text half is never kept, so this only has to be quick to build and free of contradictions
NO_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "vocab_size": 3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
NOTES = (
    "The decoder's cross-attention is the published code's: its output replaces what came in, so images cannot be made "
    "without global tokens.",
    "The source trained with the weight of the commitment term at 1 and 0.33 on the codebook term; the configuration "
    "says so.",
)


def read_v2l(reference: str, options: Options) -> Plan:
    """Reads the published state dict of a V2L Tokenizer.

    Args:
        reference: The checkpoint or the folder that holds it.
        options: All but `config` matter.

    Raises:
        UserError: If the file is missing or damaged, the image tower comes from nowhere or from two places, or words
            do not belong to it.
    """
    if options.local_only and options.encoder:
        raise UserError("--local-only leaves the image tower out, --encoder says where to take it from: give one only.")
    if options.global_words and not options.language_model:
        raise UserError("--global-words names words without ids: give the language model they are of with --llm.")
    path = locate(reference)
    weights = path if path.is_file() else pick_weights(path, FILES)
    tensors, rest = read_checkpoint(weights, ("model", "state_dict"))
    shapes = _Shapes(weights, tensors)
    tuning = getattr(rest.get("args"), "tuning_codebook", 0)
    fields, processor, tower = _tower(shapes, options)
    config = checked_config(V2LConfig, weights, **_local_fields(shapes, tuning, options), **fields)
    words, texts = _vocabularies(config, options)

    def finish(model: V2LModel) -> None:
        quantizer = model.global_quantizer
        assert quantizer is not None  # the checkpoint has global words
        quantizer.image_center.zero_()
        quantizer.groups.copy_(torch.arange(config.num_words))
        model.set_vocabulary(words)
        model.set_local_vocabulary(texts)
        if tower is not None:
            model.load_tower(tower.tower.state_dict())

    from_checkpoint = config.encoder_type is not None and tower is None
    reason = "--local-only" if options.local_only else f"the image tower is that of {options.encoder}"
    return Plan(
        weights=weights,
        tensors=tensors,
        model=V2LModel(config).eval(),  # filled and saved, not trained
        processor=V2LProcessor(processor),
        rules=(*V2L, *CLIP) if from_checkpoint else V2L,
        left_out=LEFT_OUT if from_checkpoint else {**LEFT_OUT, TOWER: f"image tower: {reason}"},
        elsewhere=("global_quantizer.image_center", "global_quantizer.groups")
        + (() if tower is None else ("image_tower.",)),
        finish=finish,
        settings={"tuning_codebook": tuning},
        notes=NOTES,
    )


class _Shapes:
    """A checkpoint's sizes, read off its tensors."""

    def __init__(self, weights: Path, tensors: Mapping[str, torch.Tensor]):
        self.weights, self.tensors = weights, tensors

    def of(self, name: str, dimensions: int) -> tuple[int, ...]:
        """Shape of a tensor.

        Raises:
            UserError: If there is none, or it has another number of dimensions.
        """
        tensor = self.tensors.get(name)
        if tensor is None or tensor.ndim != dimensions:
            found = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
            raise UserError(
                f"{self.weights}: {name} {found}, from which the model's sizes follow: the file is no published V2L "
                "Tokenizer, or it is damaged."
            )
        return tuple(tensor.shape)

    def count(self, start: str) -> int:
        """One more than the largest number behind the start of a name.

        Raises:
            UserError: If no name starts so.
        """
        numbers = [
            int(name[len(start) :].split(".")[0]) for name in self.tensors if re.match(rf"{re.escape(start)}\d", name)
        ]
        if not numbers:
            raise UserError(f"{self.weights} holds no {start}0, so it is no published V2L Tokenizer: check the path.")
        return 1 + max(numbers)


def _local_fields(shapes: _Shapes, tuning: int, options: Options) -> dict[str, Any]:
    """The configuration of both codebooks and everything between them.

    Args:
        shapes: The checkpoint's.
        tuning: What the source was trained with: -1 for a random and trained codebook, 0 for a given and frozen one,
            1 for a given and trained one.
        options: The user's.

    Raises:
        UserError: If a tensor is missing from which a size follows.
    """
    levels = shapes.count("encoder.down.")
    widths = [shapes.of(f"encoder.down.{level}.block.0.conv1.weight", 4)[0] for level in range(levels)]
    size, stored_width = shapes.of("tok_embeddings.weight", 2)
    latent_width, latent_channels = shapes.of("quant_conv.weight", 4)[:2]
    num_words, embedding_dim = shapes.of("tok_embeddings_global.weight", 2)
    inner_width = shapes.of("decoder.mid.cross_attn_1.to_q.weight", 2)[0]
    return {
        "embedding_dim": embedding_dim,
        "num_words": num_words,
        "num_global_tokens": min(GLOBAL_TOKENS, num_words),
        "language_model": options.language_model,
        "image_size": options.image_size or IMAGE_SIZE,
        "local_codebook_size": size,
        "local_embedding_dim": stored_width,
        "local_latent_dim": latent_width,
        "local_projector": "codebook_projection.weight" in shapes.tensors,
        "local_codebook_trainable": tuning != 0,
        # the published code decides it by the width
        "normalize_latents": latent_width == NORMALIZED_WIDTH and tuning != -1,
        "codebook_loss_weight": CODEBOOK_LOSS_WEIGHT,
        "commitment_loss_weight": 1.0,
        "reconstruction_loss": "l1",
        "block_out_channels": widths,
        "layers_per_block": shapes.count("encoder.down.0.block."),
        "latent_channels": latent_channels,
        "mid_block_attention": True,
        "cross_attention": "published-code",
        # each head is as wide as the decoder's middle
        "cross_attention_heads": max(1, inner_width // widths[-1]),
    }


def _tower(shapes: _Shapes, options: Options) -> tuple[dict[str, Any], V2LImageProcessor, JointEncoder | None]:
    """Where the image tower comes from: nowhere, an encoder of the user's, or the checkpoint itself.

    Returns:
        The configuration's fields, what makes the views, and the user's encoder.

    Raises:
        UserError: If the checkpoint has none and the user names none, or the widths do not agree.
    """
    local_size = options.image_size or IMAGE_SIZE
    if options.local_only:
        return {"encoder_type": None}, V2LImageProcessor(local_size=local_size, do_global_view=False), None
    if options.encoder:
        encoder = load_joint_encoder(options.encoder)
        width = shapes.of("tok_embeddings_global.weight", 2)[1]
        if encoder.embedding_dim != width:
            raise UserError(
                f"{options.encoder} embeds images in {encoder.embedding_dim} dimensions, the global codebook has "
                f"{width}: give the encoder that it was made with (the published one: CLIP ViT-L/14)."
            )
        fields = {
            "encoder_type": encoder.encoder_type,
            "encoder_config": encoder.tower_config,
            "encoder_name": encoder.name,
        }
        settings = {**encoder.image_processor.to_dict(), "local_size": local_size}
        processor = V2LImageProcessor.from_dict(settings)
        assert isinstance(processor, V2LImageProcessor)  # and no pair, as what was not used was not asked for
        return fields, processor, encoder
    if not any(name.startswith(TOWER) for name in shapes.tensors):
        raise UserError(
            f"{shapes.weights} holds no image tower ({TOWER}*), without which no global words are found: name it with "
            "--encoder (openai/clip-vit-large-patch14), or leave it out with --local-only."
        )
    vision = _clip_vision(shapes)
    fields = {
        "encoder_type": "transformers",
        "encoder_config": {
            "model_type": "clip",
            "projection_dim": vision["projection_dim"],
            "vision_config": vision,
            "text_config": NO_TEXT,
        },
        "encoder_name": f"{TOWER.rstrip('.')} of {shapes.weights.name}",
    }
    return fields, V2LImageProcessor(local_size=local_size, global_size=vision["image_size"]), None


def _clip_vision(shapes: _Shapes) -> dict[str, Any]:
    """Configuration of the checkpoint's own CLIP image tower (ViT-L/14: 24 layers of 1024, 16 heads).

    Raises:
        UserError: If a tensor is missing from which a size follows.
    """
    width, _, patch, _ = shapes.of(f"{TOWER}conv1.weight", 4)
    positions = shapes.of(f"{TOWER}positional_embedding", 2)[0]
    return {
        "hidden_size": width,
        "intermediate_size": shapes.of(f"{TOWER}transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "num_hidden_layers": shapes.count(f"{TOWER}transformer.resblocks."),
        "num_attention_heads": max(1, width // CLIP_HEAD_WIDTH),
        "image_size": patch * math.isqrt(positions - 1),
        "patch_size": patch,
        "projection_dim": shapes.of(f"{TOWER}proj", 2)[1],
    }


def _vocabularies(config: V2LConfig, options: Options) -> tuple[WordVocabulary | None, LocalVocabulary | None]:
    """The words of both codebooks, as far as the user gives them.

    Raises:
        UserError: If they do not belong to the codebooks.
    """
    if options.language_model is None:
        return None, None
    tokenizer = load_text_tokenizer(options.language_model)
    assert config.local_codebook_size is not None  # V2L's checkpoints have a local half
    texts = local_vocabulary(config.local_codebook_size, tokenizer, options.language_model)
    if options.global_words is None:
        return None, texts
    words = read_words(options.global_words)
    return (
        global_vocabulary(words, config.num_words, tokenizer, options.language_model, options.global_words),
        texts,
    )


__all__ = ["read_v2l"]
