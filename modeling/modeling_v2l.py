"""The V2L model: an image becomes words of a frozen language model's vocabulary.

Source: Zhu, Wei, Lu 2024 (https://arxiv.org/abs/2403.07874), section 3.2 and appendix A. The global half is a frozen
image tower and a frozen codebook of words; nothing in it is trained. The local half is a convolutional encoder, a
frozen codebook of the language model's whole vocabulary behind a trained projector, and a convolutional decoder
that may look at the global words. A model may have either half or both. It knows no language model, only the words
and ids of one. Level 4.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import nn

from .configuration_v2l import V2LConfig
from .convolutional_codec import as_token_maps
from .image_codec import ImageCodecModel, ImageCodecOutput
from .image_tower_v2l import ImageTower, build_image_tower
from .quantization_v2l import GlobalQuantizer
from .vector_quantization import VectorQuantizer
from .vocabulary_v2l import LocalVocabulary, WordVocabulary


@dataclass
class V2LOutput(ImageCodecOutput):
    """What a `V2LModel` makes of B images: the fields of `ImageCodecOutput`, and the tokens of the halves there are.

    Args:
        local_tokens: [B, h, w] int64 in [0, K), ids of the language model.
        global_tokens: [B, k] int64 in [0, num_words), the nearest codebook entries, nearest first.
        global_distances: [B, k] float32, their Euclidean distances.
        global_words: B lists of k words; None for a model without a vocabulary.
        global_token_ids: B lists of k lists of the language model's ids; None for a model without a vocabulary.
        image_embeds: [B, D] float32, L2-normalised, in the codebook's (centred) frame.
    """

    local_tokens: torch.Tensor | None = None
    global_tokens: torch.Tensor | None = None
    global_distances: torch.Tensor | None = None
    global_words: list[list[str]] | None = None
    global_token_ids: list[list[list[int]]] | None = None
    image_embeds: torch.Tensor | None = None


class V2LModel(ImageCodecModel):
    """Global words by a frozen image tower, local words by a trained convolutional encoder, images from both.

    Args:
        config: What it is made of.
        vocabulary: The global codebook's words; `from_pretrained` reads them from `codebook.json` beside the weights.
        local_vocabulary: The local codebook's, from `local_vocabulary.json`.

    Raises:
        ValueError: If a vocabulary has not as many words as its codebook has entries.

    Example:
        >>> model = AutoModel.from_pretrained(folder, trust_remote_code=True)
        >>> views = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)(image, return_tensors="pt")
        >>> output = model.encode(**views)
        >>> output.global_words
        [['cat', 'kitten', ...]]
        >>> pixel_values = model.decode(output.local_tokens, output.global_tokens)
    """

    config: V2LConfig
    config_class = V2LConfig
    base_model_prefix = "v2l"
    main_input_name = "global_pixel_values"
    input_modalities = ["image"]
    _supports_sdpa = True
    # named one by one: a module's name would turn its integer buffers into floats as well
    _keep_in_fp32_modules_strict = [
        "global_quantizer.codebook",
        "global_quantizer.image_center",
        "local_quantizer.codebook",
        "local_quantizer.projector",
    ]
    image_tower: ImageTower | None
    global_quantizer: GlobalQuantizer | None
    local_quantizer: VectorQuantizer | None
    vocabulary: WordVocabulary | None
    local_vocabulary: LocalVocabulary | None

    def __init__(
        self,
        config: V2LConfig,
        vocabulary: WordVocabulary | None = None,
        local_vocabulary: LocalVocabulary | None = None,
    ):
        super().__init__(config)
        self.image_tower = self.global_quantizer = None
        if config.encoder_type is not None:
            self.image_tower = build_image_tower(config.encoder_type, config.encoder_config)
        if config.encoder_type is not None or config.cross_attention is not None:
            self.global_quantizer = GlobalQuantizer(config.num_words, config.embedding_dim)
        self.local_quantizer = None
        for name in ("encoder", "quant_conv", "post_quant_conv", "decoder"):
            setattr(self, name, None)  # who uses them asks for a local half first
        if config.local_codebook_size is not None:
            self._build_local_half(config)
        self.vocabulary = self.local_vocabulary = None
        self.post_init()
        self.set_vocabulary(vocabulary)
        self.set_local_vocabulary(local_vocabulary)
        self.freeze()

    def _build_local_half(self, config: V2LConfig) -> None:
        self.build_codec(
            3,
            config.local_latent_dim,
            cross_attention=config.cross_attention,
            cross_attention_heads=config.cross_attention_heads,
            context_dim=config.embedding_dim,
        )
        self.local_quantizer = self.build_quantizer(config)

    def build_quantizer(self, config: V2LConfig) -> VectorQuantizer:
        """The quantizer of the local half; a subclass may have another."""
        assert config.local_codebook_size is not None  # else there is no local half to build
        return VectorQuantizer(
            config.local_codebook_size,
            config.local_embedding_dim,
            config.local_latent_dim,
            trainable=config.local_codebook_trainable,
            projector=config.local_projector,
            gradient=config.quantizer_gradient,
        )

    def fold_projector(self) -> None:
        """Keeps the local codebook as its projector gives it, K x D in place of K x E: the same tokens in less memory.

        Raises:
            ValueError: If there is no local half, or its codebook is trained.
        """
        quantizer = self._require_local_half()
        if self.config.local_codebook_trainable:
            raise ValueError("The local codebook is trained with its projector, so the two cannot become one.")
        quantizer.fold_projector()
        self.config.local_projector = False
        self.config.local_embedding_dim = self.config.local_latent_dim

    @property
    def guidance(self) -> str | None:
        """Which field of `encode`'s output, made by the image tower, `forward` wants in training; None for none."""
        return None if self.config.cross_attention is None else "global_tokens"

    @property
    def codec_quantizer(self) -> VectorQuantizer:
        return self._require_local_half()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, GlobalQuantizer):
            module.reset_parameters()
        else:
            super()._init_weights(module)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args, **kwargs):
        """As `PreTrainedModel.from_pretrained`; reads both vocabularies and freezes what is not to be trained."""
        vocabulary = WordVocabulary.from_pretrained(pretrained_model_name_or_path, **kwargs)
        local_vocabulary = LocalVocabulary.from_pretrained(pretrained_model_name_or_path, **kwargs)
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.set_vocabulary(vocabulary)
        model.set_local_vocabulary(local_vocabulary)
        model.freeze()  # loading makes every parameter trainable again
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs):
        """As `PreTrainedModel.save_pretrained`; writes both vocabularies too."""
        super().save_pretrained(save_directory, *args, **kwargs)
        for vocabulary in (self.vocabulary, self.local_vocabulary):
            if vocabulary is not None:
                vocabulary.save(save_directory)

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

    def set_local_vocabulary(self, vocabulary: LocalVocabulary | None) -> None:
        """Gives the local codebook's entries their words.

        Raises:
            ValueError: If there are not as many words as entries.
        """
        if vocabulary is not None and len(vocabulary) != self.config.local_codebook_size:
            raise ValueError(
                f"The local vocabulary has {len(vocabulary)} words, the local codebook "
                f"{self.config.local_codebook_size} entries: they are not of one build."
            )
        self.local_vocabulary = vocabulary

    def freeze(self) -> None:
        """Makes the image tower untrainable (paper, section 3.2: only encoder, decoder and projector are trained)."""
        if self.image_tower is not None:
            self.image_tower.requires_grad_(False).eval()  # the tower is frozen (paper, section 3.2)

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
        self._require_global_codebook().load_state_dict(
            {"codebook": embeddings, "image_center": image_center, "groups": torch.tensor(vocabulary.groups)}
        )

    @torch.no_grad()
    def load_local_codebook(self, embeddings: torch.Tensor, vocabulary: LocalVocabulary | None = None) -> None:
        """Puts the embeddings of a language model's vocabulary into the local half.

        Args:
            embeddings: [K, E], one row for each of the language model's tokens, in order of their ids.
            vocabulary: Their K words.

        Raises:
            ValueError: If there is no local half or the shape is another.
        """
        if self.local_quantizer is None:
            raise ValueError("This V2L model has no local half (local_codebook_size is None), so no local codebook.")
        codebook = self.local_quantizer.codebook
        if embeddings.shape != codebook.shape:
            raise ValueError(
                f"The local codebook is {tuple(codebook.shape)}, the embeddings are {tuple(embeddings.shape)}: set "
                "local_codebook_size and local_embedding_dim to theirs."
            )
        self.set_local_vocabulary(vocabulary)
        codebook.copy_(embeddings)

    def load_tower(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Copies an encoder's image half into the tower; what only texts pass through is passed over.

        Args:
            state_dict: The state of a whole encoder's tower.

        Raises:
            ValueError: If a tensor of the tower is missing.
        """
        if self.image_tower is None:
            raise ValueError("This V2L model has no image tower (encoder_type is None).")
        missing = [key for key in self.image_tower.state_dict() if key not in state_dict]
        if missing:
            raise ValueError(f"The encoder lacks {len(missing)} tensors of the image tower, the first is {missing[0]}.")
        wanted = self.image_tower.state_dict().keys()
        self.image_tower.load_state_dict({key: state_dict[key] for key in wanted})

    @torch.no_grad()
    def encode(
        self,
        pixel_values: torch.Tensor | None = None,
        global_pixel_values: torch.Tensor | None = None,
        num_global_tokens: int | None = None,
        excluded_labels: torch.Tensor | None = None,
    ) -> V2LOutput:
        """Finds the words of images (paper, section 3.2, quantizers).

        Args:
            pixel_values: [B, 3, H, W] in [-1, 1], the local view; a model without a local half leaves it alone.
            global_pixel_values: [B, 3, S, S], the joint encoder's view; a model without an image tower leaves it alone.
            num_global_tokens: k, global words an image; the config's number by default.
            excluded_labels: [E] int64, labels that the image tower is to do without, for encoders built on a
                classifier: what it would say of things it was never taught.

        Raises:
            ValueError: If no view is given that the model has a half for, a shape is wrong, or k exceeds the
                distinct words.
        """
        found = None
        if global_pixel_values is not None and self.image_tower is not None:
            found = self._encode_global(self.image_tower, global_pixel_values, num_global_tokens, excluded_labels)
        if pixel_values is not None and self.local_quantizer is not None:
            found = V2LOutput() if found is None else found
            latents = self.encode_pixels(pixel_values)
            found["latents"], found["local_tokens"] = latents, self.local_quantizer.assign(latents)
        if found is None:
            self._refuse(pixel_values, global_pixel_values)
        return found

    def _refuse(self, pixel_values: torch.Tensor | None, global_pixel_values: torch.Tensor | None) -> NoReturn:
        if pixel_values is None and global_pixel_values is None:
            raise ValueError("No image was given: pass pixel_values, global_pixel_values or both.")
        missing = "image tower, so it has no global" if pixel_values is None else "local half, so it has no local"
        given = "global_pixel_values" if pixel_values is None else "pixel_values"
        raise ValueError(f"This V2L model has no {missing} tokens for {given}.")

    def _require_local_half(self) -> VectorQuantizer:
        """The local half's quantizer."""
        if self.local_quantizer is None:
            raise ValueError("This V2L model has no local half (local_codebook_size is None), so it makes no images.")
        return self.local_quantizer

    def _require_global_codebook(self) -> GlobalQuantizer:
        if self.global_quantizer is None:
            raise ValueError("This V2L model has no global codebook (encoder_type and cross_attention are None).")
        return self.global_quantizer

    def _encode_global(
        self,
        image_tower: ImageTower,
        global_pixel_values: torch.Tensor,
        num_global_tokens: int | None,
        excluded_labels: torch.Tensor | None,
    ) -> V2LOutput:
        if global_pixel_values.ndim != 4 or global_pixel_values.shape[1] != 3:
            raise ValueError(
                f"global_pixel_values must be (batch, 3, height, width), got {tuple(global_pixel_values.shape)}: "
                "pass the images through the model's image processor."
            )
        quantizer = self._require_global_codebook()
        image_embeds = image_tower(global_pixel_values, excluded_labels)
        count = self.config.num_global_tokens if num_global_tokens is None else num_global_tokens
        tokens, distances = quantizer(image_embeds, count)
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
            image_embeds=quantizer.center(image_embeds),
        )

    @torch.no_grad()
    def decode(
        self,
        local_tokens: torch.Tensor,
        global_tokens: torch.Tensor | None = None,
        known: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Images of tokens (paper, section 3.2, decoder).

        Args:
            local_tokens: [B, h, w] int64 in [0, K), or [B, h * w] for the config's grid.
            global_tokens: [B, k] int64 in [0, num_words), any k. A decoder whose cross-attention is residual does
                without where None; a decoder without cross-attention leaves them alone.
            known: Bool, of the shape of `local_tokens`: where it is False the code is replaced by zeros, whatever
                token stands there (paper, figure 8, input). All are known by default.

        Returns:
            [B, 3, H, W] in about [-1, 1], not clipped.

        Raises:
            ValueError: If there is no local half, a shape is wrong, a token is outside its codebook, or global
                tokens are missing where the decoder cannot do without.
        """
        quantizer = self._require_local_half()
        tokens = as_token_maps(local_tokens, self.config.grid_size)
        codes = quantizer.lookup(tokens)
        if known is not None:
            if known.shape != local_tokens.shape:
                raise ValueError(f"known must be {tuple(local_tokens.shape)} as the tokens, got {tuple(known.shape)}.")
            codes = codes * known.reshape(tokens.shape)[:, None].to(codes)
        return self.decode_codes(codes, self._context(global_tokens))

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        global_pixel_values: torch.Tensor | None = None,
        global_tokens: torch.Tensor | None = None,
        num_global_tokens: int | None = None,
        excluded_labels: torch.Tensor | None = None,
        quantize: bool = True,
    ) -> V2LOutput:
        """Encodes and, where there is a local view and a local half, decodes and gives the losses of the way.

        Args:
            pixel_values: [B, 3, H, W] in [-1, 1], the local view.
            global_pixel_values: [B, 3, S, S], the joint encoder's view.
            global_tokens: [B, k] int64, global tokens found before, in place of `global_pixel_values`.
            num_global_tokens: As for `encode`.
            excluded_labels: As for `encode`.
            quantize: Whether the decoder is given the codes; else it is given the latents themselves, and `loss` is
                the reconstruction alone, for the first steps of a training run.

        Raises:
            ValueError: As `encode` and `decode`.
        """
        if pixel_values is None or self.local_quantizer is None:
            return self.encode(pixel_values, global_pixel_values, num_global_tokens, excluded_labels)
        output = V2LOutput(global_tokens=global_tokens)
        if global_tokens is None and global_pixel_values is not None and self.image_tower is not None:
            output = self.encode(None, global_pixel_values, num_global_tokens, excluded_labels)
        found = self.reconstruct(pixel_values, self._context(output.global_tokens), quantize)
        filled: dict[str, Any] = {**found, **output}
        return V2LOutput(local_tokens=filled.pop("tokens"), **filled)

    def _context(self, global_tokens: torch.Tensor | None) -> torch.Tensor | None:
        """The embeddings [B, k, Dg] that the decoder looks at, of global tokens [B, k]."""
        attention = self.decoder.cross_attention
        if attention is None:
            return None
        if global_tokens is not None:
            return self._require_global_codebook().codebook[global_tokens]
        if attention.is_residual:
            return None
        raise ValueError(
            "This decoder's cross-attention replaces what comes in, so it needs the image's global tokens: pass "
            "global_tokens."
        )


__all__ = ["V2LModel", "V2LOutput"]
