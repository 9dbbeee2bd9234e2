"""The V2L model: an image becomes words of a frozen language model's vocabulary.

Source: Zhu, Wei, Lu 2024 (https://arxiv.org/abs/2403.07874), section 3.2. This is the global half: a frozen image
tower and a frozen codebook of words; nothing in it is trained. It knows no language model, only the words and ids
of one. Level 4.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_v2l import V2LConfig
from .image_tower_v2l import build_image_tower
from .quantization_v2l import GlobalQuantizer
from .vocabulary_v2l import WordVocabulary


@dataclass
class V2LOutput(ModelOutput):
    """What `V2LModel.encode` finds in B images.

    Args:
        global_tokens: [B, k] int64 in [0, num_words), the nearest codebook entries, nearest first.
        global_distances: [B, k] float32, their Euclidean distances.
        global_words: B lists of k words; None for a model without a vocabulary.
        global_token_ids: B lists of k lists of the language model's ids; None for a model without a vocabulary.
        image_embeds: [B, D] float32, L2-normalised, in the codebook's (centred) frame.
    """

    global_tokens: torch.LongTensor | None = None
    global_distances: torch.FloatTensor | None = None
    global_words: list[list[str]] | None = None
    global_token_ids: list[list[list[int]]] | None = None
    image_embeds: torch.FloatTensor | None = None


class V2LModel(PreTrainedModel):
    """Frozen image tower and global codebook.

    Args:
        config: What it is made of.
        vocabulary: The codebook's words; `from_pretrained` reads them from `codebook.json` beside the weights.

    Raises:
        ValueError: If the vocabulary has not as many words as the codebook has entries.

    Example:
        >>> model = AutoModel.from_pretrained(folder, trust_remote_code=True)
        >>> views = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)(image, return_tensors="pt")
        >>> model.encode(global_pixel_values=views["global_pixel_values"]).global_words
        [['cat', 'kitten', ...]]
    """

    config_class = V2LConfig
    base_model_prefix = "v2l"
    main_input_name = "global_pixel_values"
    input_modalities = ("image",)
    _supports_sdpa = True
    # named one by one: a module's name would turn its integer buffers into floats as well
    _keep_in_fp32_modules_strict = ["global_quantizer.codebook", "global_quantizer.image_center"]

    def __init__(self, config: V2LConfig, vocabulary: WordVocabulary | None = None):
        super().__init__(config)
        self.image_tower = self.global_quantizer = None
        if config.encoder_type is not None:
            self.image_tower = build_image_tower(config.encoder_type, config.encoder_config)
            self.global_quantizer = GlobalQuantizer(config.num_words, config.embedding_dim)
        self.vocabulary = None
        self.post_init()
        self.set_vocabulary(vocabulary)
        self.freeze()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, GlobalQuantizer):
            module.reset_parameters()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args, **kwargs):
        """As `PreTrainedModel.from_pretrained`; reads `codebook.json` too and freezes what is not to be trained."""
        vocabulary = WordVocabulary.from_pretrained(pretrained_model_name_or_path, **kwargs)
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.set_vocabulary(vocabulary)
        model.freeze()  # loading makes every parameter trainable again
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs):
        """As `PreTrainedModel.save_pretrained`; writes `codebook.json` too."""
        super().save_pretrained(save_directory, *args, **kwargs)
        if self.vocabulary is not None:
            self.vocabulary.save(save_directory)

    def set_vocabulary(self, vocabulary: WordVocabulary | None) -> None:
        """Gives the codebook's entries their words.

        Raises:
            ValueError: If there are not as many words as entries.
        """
        if vocabulary is not None and len(vocabulary) != self.config.num_words:
            raise ValueError(
                f"The vocabulary has {len(vocabulary)} words, the codebook {self.config.num_words} entries: "
                "codebook.json and the weights are not of one build."
            )
        self.vocabulary = vocabulary

    def freeze(self) -> None:
        """Makes the image tower untrainable (paper, section 3.2: only encoder, decoder and projector are trained)."""
        if self.image_tower is not None:
            self.image_tower.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "V2LModel":
        super().train(mode)
        if self.image_tower is not None:
            self.image_tower.eval()  # frozen batch statistics stay as they were trained
        return self

    def load_codebook(self, embeddings: torch.Tensor, image_center: torch.Tensor, vocabulary: WordVocabulary) -> None:
        """Puts a built codebook into the model.

        Args:
            embeddings: [N, D] text embeddings of the words.
            image_center: [D], subtracted from image embeddings before the look-up.
            vocabulary: The N words.
        """
        self.set_vocabulary(vocabulary)
        self.global_quantizer.load_state_dict(
            {"codebook": embeddings, "image_center": image_center, "groups": torch.tensor(vocabulary.groups)}
        )

    def load_tower(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Copies an encoder's image half into the tower; what only texts pass through is passed over.

        Args:
            state_dict: The state of a whole encoder's tower.

        Raises:
            ValueError: If a tensor of the tower is missing.
        """
        missing = [key for key in self.image_tower.state_dict() if key not in state_dict]
        if missing:
            raise ValueError(f"The encoder lacks {len(missing)} tensors of the image tower, the first is {missing[0]}.")
        wanted = self.image_tower.state_dict().keys()
        self.image_tower.load_state_dict({key: state_dict[key] for key in wanted})

    @torch.no_grad()
    def encode(
        self,
        global_pixel_values: torch.Tensor,
        num_global_tokens: int | None = None,
        excluded_labels: torch.Tensor | None = None,
    ) -> V2LOutput:
        """Finds the words of images (paper, section 3.2, global quantizer).

        Args:
            global_pixel_values: [B, 3, H, W], the joint encoder's view, from the model's image processor.
            num_global_tokens: k, words an image; the config's number by default.
            excluded_labels: [E] int64, labels that the image tower is to do without, for encoders built on a
                classifier: what it would say of things it was never taught.

        Raises:
            ValueError: If the model has no global half, the shape is wrong, or k exceeds the distinct words.
        """
        if self.image_tower is None:
            raise ValueError("This V2L model has no image tower, so it has no global tokens.")
        if global_pixel_values.ndim != 4 or global_pixel_values.shape[1] != 3:
            raise ValueError(
                f"global_pixel_values must be (batch, 3, height, width), got {tuple(global_pixel_values.shape)}: "
                "pass the images through the model's image processor."
            )
        image_embeds = self.image_tower(global_pixel_values, excluded_labels)
        count = self.config.num_global_tokens if num_global_tokens is None else num_global_tokens
        tokens, distances = self.global_quantizer(image_embeds, count)
        words = token_ids = None
        if self.vocabulary is not None:
            rows = tokens.tolist()
            words = [[self.vocabulary.words[token] for token in row] for row in rows]
            token_ids = [[self.vocabulary.token_ids[token] for token in row] for row in rows]
        return V2LOutput(
            global_tokens=tokens,
            global_distances=distances,
            global_words=words,
            global_token_ids=token_ids,
            image_embeds=self.global_quantizer.center(image_embeds),
        )

    def forward(self, global_pixel_values: torch.Tensor, num_global_tokens: int | None = None, **kwargs) -> V2LOutput:
        """`encode`, under the name that transformers' pipelines call."""
        return self.encode(global_pixel_values, num_global_tokens=num_global_tokens, **kwargs)


__all__ = ["V2LModel", "V2LOutput"]
