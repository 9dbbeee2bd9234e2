"""Configuration of Frozen: an image as a few word embeddings that no word has, in front of a frozen language model.

Source: Tsimpoukelli et al. 2021, "Multimodal Few-Shot Learning with Frozen Language Models"
(https://arxiv.org/abs/2106.13884), section 3. Level 2.
"""

from transformers import PretrainedConfig

from .configuration_v2l import ENCODER_TYPES, without_paths


class FrozenConfig(PretrainedConfig):
    """Describes a `FrozenModel`.

    Args:
        encoder_type: Which kind of encoder the image tower comes from: "transformers", "open_clip" or "conse", as of
            `V2LConfig`.
        encoder_config: The tower's own configuration, as of `V2LConfig`.
        encoder_name: Where the encoder was loaded from, for the record.
        embedding_dim: D, width of the tower's image embeddings.
        hidden_size: H, width of the language model's word embeddings.
        num_prefix_tokens: n, embeddings an image becomes (paper: 2).
        language_model: Reference of the language model that they are made for.
        tower_trainable: Whether the tower is trained with the mapping, as in the paper. By default it stays as it is
            and only the mapping is trained.
        initializer_range: Standard deviation of the mapping's random start. Image embeddings have length 1, so that it
            is also that of the prefix's values.

    Raises:
        ValueError: If a value makes no sense.
    """

    model_type = "frozen-prefix"

    def __init__(
        self,
        encoder_type: str = "transformers",
        encoder_config: dict | None = None,
        encoder_name: str | None = None,
        embedding_dim: int = 768,
        hidden_size: int = 4096,
        num_prefix_tokens: int = 2,
        language_model: str | None = None,
        tower_trainable: bool = False,
        initializer_range: float = 0.02,
        **kwargs,
    ):
        if encoder_type not in ENCODER_TYPES:
            raise ValueError(
                f"encoder_type must be one of {', '.join(ENCODER_TYPES)}, since prefixes are made of what an image "
                f"tower sees; got {encoder_type!r}."
            )
        sizes = {"embedding_dim": embedding_dim, "hidden_size": hidden_size, "num_prefix_tokens": num_prefix_tokens}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is a number of values, at least 1, got {size}.")
        self.encoder_type = encoder_type
        self.encoder_config = without_paths(encoder_config or {"model_type": "clip"})
        self.encoder_name = encoder_name
        self.embedding_dim = embedding_dim
        self.hidden_size = hidden_size
        self.num_prefix_tokens = num_prefix_tokens
        self.language_model = language_model
        self.tower_trainable = tower_trainable
        self.initializer_range = initializer_range
        super().__init__(**kwargs)


__all__ = ["FrozenConfig"]
