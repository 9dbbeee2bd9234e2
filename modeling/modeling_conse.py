"""ConSE: an image classifier and a sentence encoder read as one joint image-text encoder.

An image's embedding is the mean of its most probable labels' text embeddings, weighted by their probabilities
(Norouzi et al. 2013, https://arxiv.org/abs/1312.5650, equation 2). No training, no open vocabulary: the space
is the label list as the sentence encoder reads it. The methods carry the names and outputs of transformers'
dual encoders, so that code written for CLIP runs unchanged. Level 2.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_conse import ConseConfig


def sub_config(values: dict):
    """Builds the configuration that `values`, a dict with `model_type`, describes.

    The stored dtype is dropped: a nested model follows the dtype of the model around it.
    """
    values = {key: value for key, value in values.items() if key not in ("dtype", "torch_dtype")}
    config_class = type(AutoConfig.for_model(values["model_type"]))
    return config_class.from_dict(values)


def most_probable_labels(
    logits: torch.Tensor, top_labels: int, excluded_labels: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The T most probable labels and their probabilities, scaled to sum to one.

    Args:
        logits: [B, L] classifier outputs, any float dtype.
        top_labels: T, at most L.
        excluded_labels: [E] int64, indices of labels that must not be chosen, as if the classifier lacked them.

    Returns:
        Indices [B, T] int64 and weights [B, T] float32.
    """
    logits = logits.float()
    if excluded_labels is not None and excluded_labels.numel():
        logits = logits.index_fill(1, excluded_labels.to(logits.device), -torch.inf)
    probabilities, indices = logits.softmax(dim=-1).topk(top_labels, dim=-1)
    return indices, probabilities / probabilities.sum(dim=-1, keepdim=True)


class ConseModel(PreTrainedModel):
    """An image classifier, the embeddings of its labels and, unless left out, the sentence encoder that made them.

    Args:
        config: What it is made of.
    """

    config: ConseConfig
    config_class = ConseConfig
    base_model_prefix = "conse"
    main_input_name = "pixel_values"
    input_modalities = ["image", "text"]
    _supports_sdpa = True

    def __init__(self, config: ConseConfig):
        super().__init__(config)
        self.classifier = AutoModelForImageClassification.from_config(sub_config(config.classifier_config))
        self.text_model = None
        if config.text_config is not None:
            self.text_model = AutoModel.from_config(sub_config(config.text_config))
        self.register_buffer("label_embeddings", torch.zeros(len(config.label_ids), config.embedding_dim))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            init.normal_(module.label_embeddings)

    def get_image_features(
        self, pixel_values: torch.Tensor, excluded_labels: torch.Tensor | None = None, **kwargs
    ) -> BaseModelOutputWithPooling:
        """Embeds images.

        Args:
            pixel_values: [B, 3, H, W], as the classifier's image processor gives them.
            excluded_labels: [E] int64, labels to do without, as if the classifier had never learned them.

        Returns:
            `pooler_output` [B, D] float32, L2-normalised.
        """
        logits = self.classifier(pixel_values=pixel_values).logits
        indices, weights = most_probable_labels(logits, self.config.top_labels, excluded_labels)
        mixed = torch.einsum("bt,btd->bd", weights, self.label_embeddings.float()[indices])
        return BaseModelOutputWithPooling(pooler_output=F.normalize(mixed, dim=-1))

    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> BaseModelOutputWithPooling:
        """Embeds texts: the mean of the sentence encoder's last hidden states over the attended positions.

        Args:
            input_ids: [N, T] int64.
            attention_mask: [N, T], 1 where attended; all of them by default.

        Returns:
            `pooler_output` [N, D] float32, L2-normalised.

        Raises:
            ValueError: If this model was saved without its text half.
        """
        if self.text_model is None:
            raise ValueError("This ConSE model holds its image half only: load the whole encoder to embed texts.")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        return BaseModelOutputWithPooling(pooler_output=F.normalize(mean, dim=-1))

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        """`get_image_features` for `pixel_values`, `get_text_features` for `input_ids`; exactly one must be given."""
        if pixel_values is not None and input_ids is None:
            return self.get_image_features(pixel_values, **kwargs)
        if input_ids is not None and pixel_values is None:
            return self.get_text_features(input_ids, attention_mask)
        raise ValueError("Give either pixel_values or input_ids: ConSE embeds one kind at a time.")


__all__ = ["ConseModel"]
