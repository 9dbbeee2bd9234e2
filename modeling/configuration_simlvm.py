"""Configuration of SimLVM: an image tokenizer, a language model over its tokens, and how the two meet.

Sources: SimLVM (sections "Light Autoregression Model Architecture", "Baseline Comparison"), LVM
(https://arxiv.org/abs/2312.00785), DeLVM (https://arxiv.org/abs/2402.04841). Level 2.
"""

from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from .configuration_visual_gru import VisualGRUConfig
from .configuration_vqgan import VQGANConfig
from .image_token_converter import ImageTokenConverter

EMBEDDINGS = ("table", "codebook")


class SimLVMConfig(PretrainedConfig):
    """Describes a `SimLVMForVisualSentence`.

    Args:
        vq_config: The image tokenizer: a `VQGANConfig` or its fields.
        text_config: The language model: a config or its fields, of which `model_type` names the kind: "llama" or
            another causal language model of transformers, or "visual_gru".
        image_token_offset: Id of image token 0 in the vocabulary.
        special_token_ids: Ids by name ("pad", "begin", "end"); none is needed.
        embedding: Where token embeddings come from: "table" (LVM: the language model's own) or "codebook" (DeLVM: the
            frozen codebook through a linear projection; special ids have a table of their own).
        grid_positions: Whether a learned vector for a token's place within its image is added to its embedding. Beyond
            the papers, for small models.
        aligned_tokens: Whether to a token's embedding that of the token is added which stands one image before the one
            to come: of a target's, the query's at the same place. Beyond the papers, for small models.
        aligned_layers: Residual convolutions by which that embedding sees what lies around its place; 0 for none.
        aligned_width: C, their channels.
        aligned_followers: Whether that embedding also tells what followed earlier images of the sentence where they
            looked like this one; wants 2 or more `aligned_layers`, between which the images are compared.
        max_images: Images of the longest sentence, the answer counted in.
        mean_candidates: Draws whose mean is the answer where a user asks for no way of choosing tokens; 1 for the
            likeliest tokens.
        mean_temperature: Their temperature; 0 for no draws, but one answer by the likeliest tokens, drawn of what the
            model expects at each place.
        train_vqgan: Whether the image tokenizer is trained with the language model (its own loss is added where images
            are given) or frozen.

    Raises:
        ValueError: If two values contradict each other; the message names both.
    """

    model_type = "simlvm"
    sub_configs = {"vq_config": VQGANConfig}

    def __init__(
        self,
        vq_config: VQGANConfig | Mapping[str, Any] | None = None,
        text_config: PretrainedConfig | Mapping[str, Any] | None = None,
        image_token_offset: int = 0,
        special_token_ids: Mapping[str, int] | None = None,
        embedding: str = "table",
        grid_positions: bool = False,
        aligned_tokens: bool = False,
        aligned_layers: int = 0,
        aligned_width: int = 128,
        max_images: int = 16,
        mean_candidates: int = 1,
        train_vqgan: bool = False,
        aligned_followers: bool = False,
        mean_temperature: float = 1.0,
        **kwargs,
    ):
        if embedding not in EMBEDDINGS:
            raise ValueError(f"embedding must be one of {', '.join(EMBEDDINGS)}, got {embedding!r}.")
        if embedding == "codebook" and train_vqgan:
            raise ValueError("embedding 'codebook' reads a frozen codebook, but train_vqgan would move it: choose one.")
        self.vq_config = as_vq_config(vq_config)
        self.text_config = as_text_config(text_config, self.vq_config.codebook_size)
        if embedding == "codebook" and self.text_config.tie_word_embeddings:
            raise ValueError(
                "embedding 'codebook' leaves the head nothing to share, but text_config has tie_word_embeddings true: "
                "set it to false."
            )
        self.image_token_offset = image_token_offset
        self.special_token_ids = dict(special_token_ids or {})
        self.embedding = embedding
        self.grid_positions = grid_positions
        self.aligned_tokens = aligned_tokens
        self.aligned_layers = aligned_layers
        self.aligned_width = aligned_width
        self.aligned_followers = aligned_followers
        self.max_images = max_images
        self.mean_candidates = mean_candidates
        self.mean_temperature = mean_temperature
        self.train_vqgan = train_vqgan
        self.make_converter()  # refuses ids that do not go together
        longest = getattr(self.text_config, "max_position_embeddings", None)
        if aligned_layers and not aligned_tokens:
            raise ValueError(
                f"aligned_layers is {aligned_layers}, but without aligned_tokens there is nothing that they read: "
                "set it to true."
            )
        if aligned_layers < 0 or aligned_width < 1:
            raise ValueError(
                f"aligned_layers and aligned_width are {aligned_layers} and {aligned_width}: give at least 0 layers of "
                "at least 1 channel."
            )
        if aligned_followers and (aligned_layers < 2 or aligned_width % 4):
            raise ValueError(
                f"aligned_followers compares images in 4 heads between halves of {aligned_layers} aligned_layers of "
                f"aligned_width {aligned_width}: give at least 2 layers of a multiple of 4 channels."
            )
        if mean_candidates < 1:
            raise ValueError(f"mean_candidates is {mean_candidates}, but an answer is made of at least one: give 1.")
        if mean_temperature < 0 or (mean_temperature == 0 and mean_candidates > 1):
            raise ValueError(
                f"mean_temperature is {mean_temperature} for {mean_candidates} mean_candidates, but draws want one "
                "above 0, and without draws there is one candidate: change one of the two."
            )
        if max_images < 2:
            raise ValueError(f"max_images is {max_images}, but a sentence has at least a query and its answer: give 2.")
        if longest is not None and max_images * self.tokens_per_image > longest:
            raise ValueError(
                f"max_images {max_images} of {self.tokens_per_image} tokens are {max_images * self.tokens_per_image}, "
                f"but the language model's max_position_embeddings is {longest}."
            )
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)

    @property
    def tokens_per_image(self) -> int:
        """T, image tokens of one image."""
        return self.vq_config.image_seq_length

    @property
    def codebook_size(self) -> int:
        """K."""
        return self.vq_config.codebook_size

    @property
    def vocab_size(self) -> int:
        """V, of the language model."""
        return self.text_config.vocab_size

    def make_converter(self) -> ImageTokenConverter:
        """Image tokens to ids and back."""
        return ImageTokenConverter(
            self.codebook_size, self.image_token_offset, self.special_token_ids, self.text_config.vocab_size
        )


def as_vq_config(given: VQGANConfig | Mapping[str, Any] | None) -> VQGANConfig:
    """The image tokenizer's config of its fields."""
    if given is None:
        return VQGANConfig()
    if isinstance(given, Mapping):
        return VQGANConfig(**{name: value for name, value in given.items() if name != "model_type"})
    return given


def as_text_config(given: PretrainedConfig | Mapping[str, Any] | None, codebook_size: int) -> PretrainedConfig:
    """The language model's config of its fields; by default LVM's of 300 million parameters.

    Raises:
        ValueError: If transformers knows no such kind of model.
    """
    if given is None:
        given = {"vocab_size": codebook_size + 100, **LVM_300M}
    if not isinstance(given, Mapping):
        return given
    fields = dict(given)
    kind = fields.pop("model_type", "llama")
    if kind == VisualGRUConfig.model_type:
        return VisualGRUConfig(**fields)
    if kind not in CONFIG_MAPPING:
        raise ValueError(
            f"text_config has model_type {kind!r}, which transformers does not know: try llama or visual_gru."
        )
    return CONFIG_MAPPING[kind](**fields)


# EasyLM/models/llama/llama_model.py of LVM, "300m"
LVM_300M = {
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 2688,
    "num_hidden_layers": 22,
    "num_attention_heads": 8,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}


__all__ = ["SimLVMConfig"]
