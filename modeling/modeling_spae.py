"""SPAE: an image becomes layers of words of a frozen language model's vocabulary, coarse to fine.

Source: Yu et al. 2023 (https://arxiv.org/abs/2306.17842), section 3, of which no code was published. The encoder, the
decoder and the image tower are those of the V2L model, so that the two differ in nothing but what SPAE says: a frozen
codebook without a projector, a pyramid of tokens, losses of its prefixes and the semantic loss. That loss is written
down from this project's knowledge of the paper; its weight is fixed here, where SPAE's changes in training. The
perceptual and the adversarial loss of training see the whole pyramid's image only. Level 5.
"""

from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.utils import logging

from .configuration_spae import SPAEConfig
from .convolutional_codec import reconstruction_loss
from .modeling_v2l import V2LModel, V2LOutput
from .pyramid_quantization import PyramidQuantizer, PyramidQuantizerOutput

logger = logging.get_logger(__name__)

# Distances of positions to words that are held at once, in float32 values (64 MiB).
DISTANCES = 1 << 24


class SPAEModel(V2LModel):
    """A V2L model whose local tokens are a pyramid.

    `encode` gives `local_tokens` [B, 1, T], layer by layer and row by row within a layer ([B, h, w] for a model of a
    single layer); `decode` takes the first T' of them, T' one of the config's `token_counts`.

    Args:
        config: What it is made of.
        vocabulary: As of `V2LModel`.
        local_vocabulary: As of `V2LModel`.

    Example:
        >>> model = AutoModel.from_pretrained(folder, trust_remote_code=True)
        >>> views = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)(image, return_tensors="pt")
        >>> tokens = model.encode(views["pixel_values"]).local_tokens
        >>> coarse, fine = model.decode(tokens[..., :341]), model.decode(tokens)
    """

    config: SPAEConfig
    config_class = SPAEConfig
    base_model_prefix = "spae"

    def build_quantizer(self, config: SPAEConfig) -> PyramidQuantizer:
        assert config.local_codebook_size is not None  # else there is no local half to build
        return PyramidQuantizer(
            config.local_codebook_size,
            config.local_embedding_dim,
            config.layer_sizes,
            config.local_latent_dim,
            gradient=config.quantizer_gradient,
        )

    @property
    def guidance(self) -> str | None:
        """As of `V2LModel`: image_embeds where an image tower is there and the semantic loss has a weight."""
        return "image_embeds" if self.config.semantic_weight > 0 and self.image_tower is not None else None

    def decode(
        self,
        local_tokens: torch.Tensor,
        global_tokens: torch.Tensor | None = None,
        known: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Images of tokens.

        Args:
            local_tokens: [B, T'] or [B, 1, T'] int64 in [0, K), the first T' tokens of images, T' one of the config's
                `token_counts`; for a single layer also maps [B, h, w].
            global_tokens: Left alone.
            known: Bool, of the shape of `local_tokens`, for a single layer only: where it is False the code is
                replaced by zeros.

        Returns:
            [B, 3, H, W] in about [-1, 1], not clipped.

        Raises:
            ValueError: As of `V2LModel.decode`; if T' is another number; or if `known` is given with a pyramid.
        """
        quantizer = self._require_local_half()
        if isinstance(quantizer, PyramidQuantizer) and quantizer.is_pyramid:
            if known is not None:
                raise ValueError(
                    "known was given, but a position's code is the mean of tokens of several layers, so none can be "
                    "left out alone: give a shorter prefix of the tokens instead."
                )
            return super().decode(local_tokens[:, None] if local_tokens.ndim == 2 else local_tokens, global_tokens)
        if local_tokens.shape[1:] == (1, self.config.image_seq_length):
            local_tokens, known = local_tokens[:, 0], known[:, 0] if known is not None else None
        return super().decode(local_tokens, global_tokens, known)

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        global_pixel_values: torch.Tensor | None = None,
        global_tokens: torch.Tensor | None = None,
        num_global_tokens: int | None = None,
        excluded_labels: torch.Tensor | None = None,
        quantize: bool = True,
        image_embeds: torch.Tensor | None = None,
    ) -> V2LOutput:
        """As `V2LModel.forward`; `loss` has the prefixes' and the semantic loss too.

        Args:
            pixel_values: As of `V2LModel.forward`.
            global_pixel_values: As of `V2LModel.forward`.
            global_tokens: As of `V2LModel.forward`.
            num_global_tokens: As of `V2LModel.forward`.
            excluded_labels: As of `V2LModel.forward`.
            quantize: As of `V2LModel.forward`.
            image_embeds: [B, D], what `encode` gives under this name, found before, in place of
                `global_pixel_values`; without either there is no semantic loss.

        Raises:
            ValueError: As of `V2LModel.forward`, or if `image_embeds` is of another shape.
        """
        if pixel_values is None or self.local_quantizer is None:
            return super().forward(
                pixel_values, global_pixel_values, global_tokens, num_global_tokens, excluded_labels, quantize
            )
        output = V2LOutput(global_tokens=global_tokens, image_embeds=image_embeds)
        if image_embeds is None and global_pixel_values is not None and self.image_tower is not None:
            output = self.encode(None, global_pixel_values, num_global_tokens, excluded_labels)
        context = self._check_embeds(output.image_embeds, len(pixel_values))
        found = self.reconstruct(pixel_values, context, quantize)
        filled: dict[str, Any] = {**found, **output}
        return V2LOutput(local_tokens=filled.pop("tokens"), **filled)

    def _check_embeds(self, image_embeds: torch.Tensor | None, count: int) -> torch.Tensor | None:
        """The images' embeddings as [B, 1, D], one vector beside each image; None where they are of no use."""
        if self.config.semantic_weight == 0:
            return None
        if image_embeds is None:
            if self.training:
                logger.warning_once(
                    "semantic_weight is %s, but there are no image embeddings, so no layer is pulled to words: give "
                    "the model an image tower or forward image_embeds, or set semantic_weight 0.",
                    self.config.semantic_weight,
                )
            return None
        expected = count, self.config.local_embedding_dim
        if image_embeds.shape != expected:
            raise ValueError(
                f"image_embeds must be {expected}, one as wide as the codebook's entries for each image, got "
                f"{tuple(image_embeds.shape)}: take them from encode."
            )
        return image_embeds[:, None]

    def draw(
        self, codes: PyramidQuantizerOutput, context: torch.Tensor | None, pixel_values: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Images of whole pyramids; and the losses of shorter ones and of the upper layers' words.

        Args:
            codes: What the quantizer made of the latents.
            context: [B, 1, D], the images' embeddings, which the decoder does not see; None for no semantic loss.
            pixel_values: [B, 3, H, W], what the images are to be like.

        Returns:
            Images [B, 3, H, W], and weighted terms to add to the loss, scalars.
        """
        pixels, terms = self.decode_codes(codes.quantized), []
        shorter = self._choose_prefixes()
        if shorter:
            kind = self.config.reconstruction_loss
            losses = [
                reconstruction_loss(kind, self.decode_codes(codes.prefixes[layer]), pixel_values) for layer in shorter
            ]
            terms.append(torch.stack(losses).mean())
        if context is not None:
            terms.append(self.config.semantic_weight * self.semantic_loss(codes.layer_latents, context[:, 0]))
        return pixels, terms

    def _choose_prefixes(self) -> list[int]:
        """Last layers of the prefixes whose images count, beside the whole pyramid's."""
        config = self.config
        whole = [layer for layer, size in enumerate(config.layer_sizes[:-1]) if size == config.layer_sizes[-1]]
        if config.prefix_losses == "none":
            return []
        if config.prefix_losses == "random" and self.training and whole:
            return [whole[int(torch.randint(len(whole), ()))]]
        return whole  # in evaluation always their mean, so that the loss of an image is one number

    def semantic_loss(self, layer_latents: tuple[torch.Tensor, ...], image_embeds: torch.Tensor) -> torch.Tensor:
        """How far the upper layers are from words that suit their image (SPAE, section 3, semantic loss).

        The similarities of an image with all words are scaled so that the least is 0 and the greatest 1. Words from a
        layer's threshold on are its candidates, the most similar one always among them. The loss is the mean over
        layers, images and positions of the cross-entropy -log softmax(-|z - e|^2) of a candidate e, averaged over the
        candidates.

        Similarity is the cosine in the frame of `image_embeds`. Where that is centred (the global codebook's
        `image_center` is not zero) the mean image was taken from the image, so the mean word is taken from the words:
        the global codebook was centred in the same way, and the mean image lies elsewhere than the mean word.

        Args:
            layer_latents: What each layer quantizes, [B, D, s, s]; layers behind the `semantic_layers`-th are left
                alone.
            image_embeds: [B, D], as `encode` gives them.

        Returns:
            Scalar float32, unweighted.
        """
        config = self.config
        with torch.autocast(image_embeds.device.type, enabled=False):
            with torch.no_grad():
                similarities = image_embeds.float() @ self._word_directions().T
                low, high = similarities.aminmax(dim=1, keepdim=True)
            codes = self._require_local_half().codebook.float()
            losses = []
            for threshold, latents in zip(
                config.semantic_thresholds, layer_latents[: config.semantic_layers], strict=True
            ):
                # scaled similarity >= threshold, without a division by a range that may be 0
                candidates = similarities >= high - (1 - threshold) * (high - low)
                losses.append(candidate_cross_entropy(latents.float(), codes, candidates))
            return torch.stack(losses).mean()

    def _word_directions(self) -> torch.Tensor:
        """The codebook's entries [K, D] in the frame of `image_embeds`, of length 1."""
        codes = self._require_local_half().codebook.float()
        if self.global_quantizer is not None and self.global_quantizer.image_center.any():
            codes = codes - codes.mean(0)
        return F.normalize(codes, dim=1)


def candidate_cross_entropy(latents: torch.Tensor, codes: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of softmax(-|z - e|^2) over all codes, for the codes that are candidates of an image.

    |z|^2 is in all exponents and cancels: with m the mean of the candidates and q that of their squares, a position's
    loss is log sum exp(2 z.e - |e|^2) - (2 z.m - q). So the candidates cost nothing for each position, and no more
    than some positions' distances are held at once.

    Args:
        latents: [B, D, s, s] float32.
        codes: [K, D] float32.
        candidates: [B, K] bool, at least one for each image.

    Returns:
        Scalar float32, the mean over images and positions.
    """
    squares = codes.square().sum(1)
    shares = candidates.float() / candidates.sum(1, keepdim=True)
    middle, square = shares @ codes, shares @ squares
    rows = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    found = 2 * torch.einsum("bdhw,bd->bhw", latents, middle) - square[:, None, None]
    parts = []
    for part in rows.split(max(1, DISTANCES // len(codes))):
        if torch.is_grad_enabled() and part.requires_grad:
            # found anew for the gradient: kept, the distances of all positions would take gigabytes
            parts.append(checkpoint(_log_sum, part, codes, squares, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(_log_sum(part, codes, squares))
    return torch.cat(parts).mean() - found.mean()


def _log_sum(rows: torch.Tensor, codes: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """log sum exp(2 z.e - |e|^2) over all codes, [n] of rows [n, D]."""
    return torch.addmm(squares, rows, codes.T, beta=-1, alpha=2).logsumexp(1)


__all__ = ["SPAEModel"]
