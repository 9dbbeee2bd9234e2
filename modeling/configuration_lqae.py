"""Configuration of LQAE: a V2L model's local half that a frozen masked language model reads before it is decoded.

Source: Liu, Yan, Abbeel 2023, "Language Quantized AutoEncoders" (https://arxiv.org/abs/2302.00902), and its code,
https://github.com/lhao499/language-quantized-autoencoders: weights and ratios are the code's. Level 2.
"""

from typing import Any

from .configuration_v2l import V2LConfig, without_paths

# What LQAE's codebook is: a language model's word embeddings as they are.
OF_LQAE: dict[str, Any] = {
    "encoder_type": None,
    "local_projector": False,
    "normalize_latents": False,
    "codebook_loss_weight": 0.0,
    "commitment_loss_weight": 0.005,
}


class LQAEConfig(V2LConfig):
    """Describes an `LQAEModel`: the fields of `V2LConfig`, with other defaults, and those of the language prior.

    Defaults that differ: no image tower, no projector, latents as they are, `commitment_loss_weight` 0.005,
    `codebook_loss_weight` 0 (the codebook is frozen, so that term is a constant).

    Args:
        masked_lm_config: Configuration of the frozen masked language model, a dict with `model_type`; None for a model
            without a language prior, of which only the matching by direction is left. That is the baseline "LQAE*" of
            the V2L paper's tables, with a causal language model's vocabulary.
        mask_ratio: Share of an image's tokens that are masked in training; none are otherwise.
        mlm_loss_weight: Weight of the masked language model's cross-entropy at the masked tokens; 0 for without it.
        mask_token_id: Which entry of the codebook is the mask; needed with a masked language model where `mask_ratio`
            is above 0.
        **kwargs: Fields of `V2LConfig`.

    Raises:
        ValueError: If a value contradicts another; the message names both.
    """

    model_type = "lqae"
    # what presets of the V2L model's training leave alone
    own_settings = ("codebook_loss_weight", "commitment_loss_weight", "cross_attention")

    def __init__(
        self,
        masked_lm_config: dict | None = None,
        mask_ratio: float = 0.5,
        mlm_loss_weight: float = 1e-4,
        mask_token_id: int | None = None,
        **kwargs,
    ):
        super().__init__(**{**OF_LQAE, **kwargs})
        self.masked_lm_config = without_paths(masked_lm_config)
        self.mask_ratio = mask_ratio
        self.mlm_loss_weight = mlm_loss_weight
        self.mask_token_id = mask_token_id
        self._check_codebook()
        self._check_prior()

    def _check_codebook(self) -> None:
        if self.local_projector or self.local_codebook_trainable:
            wrong = "local_projector" if self.local_projector else "local_codebook_trainable"
            raise ValueError(
                f"{wrong} is true, but LQAE's codebook is a language model's word embeddings as they are: set it to "
                "false, or describe a v2l model."
            )
        if self.local_latent_dim != self.local_embedding_dim:
            raise ValueError(
                f"local_latent_dim is {self.local_latent_dim} and local_embedding_dim {self.local_embedding_dim}, but "
                "without a projector latents are as wide as the codebook: leave local_latent_dim out."
            )
        if self.normalize_latents:
            raise ValueError(
                "normalize_latents is true, but LQAE compares directions itself and commits the latents to the entries "
                "as they are: set it to false."
            )
        if self.cross_attention is not None:
            raise ValueError(
                f"cross_attention is {self.cross_attention!r}, but LQAE's decoder looks at no global words: set it to "
                "null."
            )

    def _check_prior(self) -> None:
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio is a share of the tokens in [0, 1), got {self.mask_ratio}.")
        if self.mlm_loss_weight < 0:
            raise ValueError(f"mlm_loss_weight must not be below 0, got {self.mlm_loss_weight}.")
        if self.masked_lm_config is None:
            return
        if "model_type" not in self.masked_lm_config:
            raise ValueError(
                "masked_lm_config names no model_type, so it describes no language model: take the config of one, such "
                "as roberta-base's."
            )
        if self.mask_token_id is None and self.mask_ratio > 0:
            raise ValueError(
                f"mask_ratio is {self.mask_ratio}, but mask_token_id is missing, so nothing can stand for a masked "
                "token: set it to the tokenizer's."
            )
        size = self.local_codebook_size
        if self.mask_token_id is not None and size is not None and not 0 <= self.mask_token_id < size:
            raise ValueError(
                f"mask_token_id is {self.mask_token_id}, but the codebook has the entries 0 to {size - 1}."
            )


__all__ = ["LQAEConfig"]
