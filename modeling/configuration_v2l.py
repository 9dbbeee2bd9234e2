"""Configuration of the V2L model: an image as words of a frozen language model.

Source: Zhu, Wei, Lu 2024, "Beyond Text: Frozen Large Language Models in Visual Signal Comprehension"
(https://arxiv.org/abs/2403.07874), section 3.2 and 4.1. Level 0: imports nothing from this folder.
"""

from transformers import PretrainedConfig

ENCODER_TYPES = ("transformers", "open_clip", "conse")


class V2LConfig(PretrainedConfig):
    """Describes a `V2LModel`. The defaults are the paper's sizes where it names them.

    Args:
        encoder_type: Which kind of joint image-text encoder the frozen image tower comes from: "transformers" (any
            model with `get_image_features`), "open_clip" (any open_clip architecture) or "conse"; None for a model
            without the global half.
        encoder_config: The tower's own configuration: for "transformers" and "conse" a dict with `model_type`, for
            "open_clip" the architecture's model configuration.
        encoder_name: Where the encoder was loaded from, for the record.
        embedding_dim: D, width of the joint space and of the global codebook (768 for CLIP ViT-L/14).
        num_words: Entries of the global codebook (the paper's 11,908).
        num_global_tokens: k, global tokens of an image by default (the paper's K_g: 5 and 21).
        language_model: Reference of the language model whose vocabulary the words come from.
        image_size: Side of the local branch's view in pixels (paper, section 4.1: 128).
        downsampling_factor: Pixels of that view per side of one local token (paper, section 3.2: 8).

    Raises:
        ValueError: If a value contradicts another; the message names both.
    """

    model_type = "v2l"

    def __init__(
        self,
        encoder_type: str | None = "transformers",
        encoder_config: dict | None = None,
        encoder_name: str | None = None,
        embedding_dim: int = 768,
        num_words: int = 11908,
        num_global_tokens: int = 5,
        language_model: str | None = None,
        image_size: int = 128,
        downsampling_factor: int = 8,
        **kwargs,
    ):
        if encoder_type is not None and encoder_type not in ENCODER_TYPES:
            raise ValueError(f"encoder_type must be one of {', '.join(ENCODER_TYPES)} or None, got {encoder_type!r}.")
        if not 1 <= num_global_tokens <= num_words:
            raise ValueError(
                f"num_global_tokens is {num_global_tokens}, but the codebook has {num_words} words: "
                f"choose a number from 1 to {num_words}."
            )
        if image_size % downsampling_factor:
            raise ValueError(
                f"image_size {image_size} is not a multiple of downsampling_factor {downsampling_factor}: "
                "the local tokens would not cover the image."
            )
        self.encoder_type = encoder_type
        self.encoder_config = encoder_config or {"model_type": "clip"}
        self.encoder_name = encoder_name
        self.embedding_dim = embedding_dim
        self.num_words = num_words
        self.num_global_tokens = num_global_tokens
        self.language_model = language_model
        self.image_size = image_size
        self.downsampling_factor = downsampling_factor
        super().__init__(**kwargs)

    @property
    def grid_size(self) -> tuple[int, int]:
        """(h, w), the map of local tokens (16 x 16 in the paper)."""
        side = self.image_size // self.downsampling_factor
        return side, side

    @property
    def image_seq_length(self) -> int:
        """h * w, the local tokens of an image (256 in the paper)."""
        return self.grid_size[0] * self.grid_size[1]


__all__ = ["V2LConfig"]
