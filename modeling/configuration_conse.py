"""Configuration of ConSE, a joint image-text encoder made of a classifier and a sentence encoder.

Source: Norouzi et al. 2013, "Zero-Shot Learning by Convex Combination of Semantic Embeddings"
(https://arxiv.org/abs/1312.5650). Level 0: imports nothing from this folder.
"""

from transformers import PretrainedConfig


class ConseConfig(PretrainedConfig):
    """Describes a `ConseModel`.

    Args:
        classifier_config: Configuration, as a dict with `model_type`, of any image classifier that transformers
            knows, timm's included (`timm_wrapper`).
        text_config: Configuration of the sentence encoder, as a dict with `model_type`; None for a model that
            holds the image half only.
        embedding_dim: D, width of the joint space.
        top_labels: T, how many of the most probable labels an image's embedding is mixed from (the paper's T = 10).
        label_ids: The classifier's L labels in its order, by identifier (WordNet ids for ImageNet), by which labels
            can be left out.
        label_words: Single words that the labels' names are made of; a codebook may keep them although the
            sentence encoder splits them into pieces.
    """

    model_type = "conse"

    def __init__(
        self,
        classifier_config: dict | None = None,
        text_config: dict | None = None,
        embedding_dim: int = 384,
        top_labels: int = 10,
        label_ids: list[str] | None = None,
        label_words: list[str] | None = None,
        **kwargs,
    ):
        self.classifier_config = classifier_config or {"model_type": "resnet"}
        self.text_config = text_config
        self.embedding_dim = embedding_dim
        self.top_labels = top_labels
        self.label_ids = list(label_ids or [str(index) for index in range(top_labels)])
        self.label_words = list(label_words or [])
        if not 1 <= top_labels <= len(self.label_ids):
            raise ValueError(
                f"top_labels is {top_labels}, but the classifier has {len(self.label_ids)} labels: "
                f"choose a number from 1 to {len(self.label_ids)}."
            )
        # the base class stores the number of labels as a dict of names, which label_ids makes superfluous
        kwargs = {key: value for key, value in kwargs.items() if key not in ("id2label", "label2id")}
        kwargs["num_labels"] = len(self.label_ids)
        super().__init__(**kwargs)


__all__ = ["ConseConfig"]
