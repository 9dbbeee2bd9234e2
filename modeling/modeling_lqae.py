"""LQAE: images as words of a masked language model, which reads them before the decoder does.

Source: Liu, Yan, Abbeel 2023 (https://arxiv.org/abs/2302.00902), section 3, and its code,
https://github.com/lhao499/language-quantized-autoencoders. Encoder and decoder are the convolutional ones of the V2L
model, where the paper has transformers, so that baselines differ in nothing but their quantizer and prior. Level 5.
"""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, PreTrainedModel

from .configuration_lqae import LQAEConfig
from .modeling_conse import sub_config
from .modeling_v2l import V2LModel
from .normalized_quantization import NormalizedQuantizer
from .vector_quantization import VectorQuantizerOutput


class LQAEModel(V2LModel):
    """A V2L model whose codes are matched by direction and pass a frozen masked language model on their way to pixels.

    Codes [B, D, h, w] are read row by row as a sentence of h * w word embeddings, to which the language model adds its
    own positions; its last hidden states go through `post_quant_conv` into the decoder. In training a share of the
    tokens is replaced by the mask, and the language model's cross-entropy there is part of the loss. No parameter of
    the language model is trained; gradients pass through it to the encoder. Its weights are saved with the model.

    Args:
        config: What it is made of.
        **kwargs: The vocabularies, as of `V2LModel`.

    Raises:
        ValueError: If the language model is not as wide as the codebook, knows fewer words, or cannot read a sentence
            as long as an image.
    """

    config: LQAEConfig
    config_class = LQAEConfig
    base_model_prefix = "lqae"

    def _build_local_half(self, config: LQAEConfig) -> None:
        super()._build_local_half(config)
        self.masked_lm: PreTrainedModel | None = None
        if config.masked_lm_config is not None:
            self.masked_lm = AutoModelForMaskedLM.from_config(sub_config(config.masked_lm_config))
            self._check_masked_lm(self.masked_lm)

    def build_quantizer(self, config: LQAEConfig) -> NormalizedQuantizer:
        """The quantizer of the local half, which matches by direction."""
        assert config.local_codebook_size is not None  # else there is no local half to build
        return NormalizedQuantizer(
            config.local_codebook_size, config.local_embedding_dim, gradient=config.quantizer_gradient
        )

    def _check_masked_lm(self, masked_lm: PreTrainedModel) -> None:
        config, words = self.config, masked_lm.get_input_embeddings()
        if words.embedding_dim != config.local_embedding_dim:
            raise ValueError(
                f"The masked language model's word embeddings are {words.embedding_dim} wide, the codebook is "
                f"{config.local_embedding_dim}: its words have to be the codebook."
            )
        assert isinstance(words.num_embeddings, int) and config.local_codebook_size is not None
        if words.num_embeddings < config.local_codebook_size:
            raise ValueError(
                f"The masked language model knows {words.num_embeddings} words, the codebook has "
                f"{config.local_codebook_size} entries: its words have to be the codebook."
            )
        _check_length(masked_lm, config.image_seq_length)

    @property
    def _prior(self) -> PreTrainedModel | None:
        """The masked language model; None for a model without one, or without a local half."""
        return getattr(self, "masked_lm", None)

    def freeze(self) -> None:
        """Makes image tower and masked language model untrainable."""
        super().freeze()
        if self._prior is not None:
            self._prior.requires_grad_(False).eval()  # it is the frozen prior that codes are read by

    def train(self, mode: bool = True) -> "LQAEModel":
        super().train(mode)
        if self._prior is not None:
            self._prior.eval()  # a frozen prior has no dropout
        return self

    def load_masked_lm(self, weights: Mapping[str, torch.Tensor] | nn.Module) -> None:
        """Copies a masked language model's weights into this model's, which stays frozen.

        Args:
            weights: A model of the class that `AutoModelForMaskedLM` makes of `masked_lm_config`, or its state.

        Raises:
            ValueError: If this model has none, or a tensor is missing, superfluous or of another shape.
        """
        if self._prior is None:
            raise ValueError("This LQAE model has no masked language model (masked_lm_config is None).")
        state_dict = weights.state_dict() if isinstance(weights, nn.Module) else weights
        try:
            self._prior.load_state_dict(state_dict)
        except RuntimeError as error:  # names them over several lines
            said = " ".join(str(error).split())[:300]
            raise ValueError(f"These weights are not of the model that masked_lm_config describes: {said}") from error
        self.freeze()

    def decode_codes(self, codes: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Images [B, C, H, W] in about [-1, 1] of codes [B, D, h, w], all of which the language model sees.

        Raises:
            ValueError: If there are more codes than the language model reads.
        """
        if self._prior is not None:
            sentence = _as_sentence(self._prior, codes)
            hidden = self._prior.base_model(inputs_embeds=sentence).last_hidden_state
            codes = _as_maps(hidden, codes)
        return super().decode_codes(codes, context)

    def draw(
        self, codes: VectorQuantizerOutput, context: torch.Tensor | None, pixel_values: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """As `ImageCodecModel.draw`: in training some tokens are masked, and guessing them is a term of the loss."""
        config, quantized = self.config, codes.quantized
        count = round(config.mask_ratio * codes.tokens[0].numel())
        if self._prior is None or not self.training or count == 0:
            return self.decode_codes(quantized, context), []
        sentence, tokens = _as_sentence(self._prior, quantized), codes.tokens.flatten(1)
        places = torch.rand(tokens.shape, device=tokens.device).topk(count, dim=1).indices
        masked = torch.zeros_like(tokens, dtype=torch.bool).scatter(1, places, True)
        mask = self._require_local_half().codebook[config.mask_token_id].to(sentence)
        sentence = torch.where(masked[..., None], mask, sentence)
        if config.mlm_loss_weight == 0:
            hidden, terms = self._prior.base_model(inputs_embeds=sentence).last_hidden_state, []
        else:
            read = self._prior(inputs_embeds=sentence, output_hidden_states=True)
            hidden = read.hidden_states[-1]
            terms = [config.mlm_loss_weight * F.cross_entropy(read.logits[masked].float(), tokens[masked])]
        return super().decode_codes(_as_maps(hidden, quantized), context), terms


def _as_sentence(masked_lm: PreTrainedModel, codes: torch.Tensor) -> torch.Tensor:
    """Codes [B, D, h, w] row by row, as the language model takes them: [B, h * w, D]."""
    sentence = codes.flatten(2).transpose(1, 2)
    _check_length(masked_lm, sentence.shape[1])
    words = masked_lm.get_input_embeddings()
    assert isinstance(words.weight, torch.Tensor)  # a table's
    return sentence.to(words.weight.dtype)


def _as_maps(hidden: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Hidden states [B, h * w, D] as maps of the shape of `codes`, [B, D, h, w]."""
    return hidden.transpose(1, 2).reshape(codes.shape)


def _check_length(masked_lm: PreTrainedModel, length: int) -> None:
    limit = _longest_sentence(masked_lm)
    if limit is not None and length > limit:
        raise ValueError(
            f"An image is {length} tokens, but the masked language model reads {limit}: make images smaller or "
            "tokens larger (more levels in block_out_channels)."
        )


def _longest_sentence(masked_lm: PreTrainedModel) -> int | None:
    """How many words a masked language model reads; None where it does not say."""
    for name, module in masked_lm.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa begins to count behind the padding
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return getattr(masked_lm.config, "max_position_embeddings", None)


__all__ = ["LQAEModel"]
