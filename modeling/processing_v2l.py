"""The V2L processor: pictures to the model's views, and the model's tokens back to words. Level 1."""

import os
from collections.abc import Sequence

import torch
from transformers import BatchFeature, ProcessorMixin

from .image_processing_v2l import Picture, V2LImageProcessor
from .vocabulary_v2l import WordVocabulary


class V2LProcessor(ProcessorMixin):
    """An image processor and the words of a codebook.

    Args:
        image_processor: Makes the two views of a picture.

    Attributes:
        vocabulary: The words; `from_pretrained` reads them from `codebook.json`. None where there is none.

    Example:
        >>> processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
        >>> views = processor(image, return_tensors="pt", do_local_view=False)
        >>> processor.batch_decode(model.encode(**views).global_tokens)
        [['cat', 'kitten', ...]]
    """

    def __init__(self, image_processor: V2LImageProcessor | None = None):
        super().__init__(image_processor)
        self.vocabulary: WordVocabulary | None = None

    def __call__(
        self, images: Picture | Sequence[Picture], return_tensors: str | None = None, **kwargs
    ) -> BatchFeature:
        """Makes the views of pictures; see `V2LImageProcessor.preprocess`."""
        return self.image_processor(images, return_tensors=return_tensors, **kwargs)

    def batch_decode(self, global_tokens: torch.Tensor | Sequence[Sequence[int]]) -> list[list[str]]:
        """Turns tokens back into words.

        Args:
            global_tokens: [B, k] integers in [0, num_words).

        Returns:
            B lists of k words.

        Raises:
            ValueError: If there is no vocabulary, or a token is outside it.
        """
        if self.vocabulary is None:
            raise ValueError("This processor has no vocabulary: load it from a model folder that has a codebook.json.")
        rows = global_tokens.tolist() if isinstance(global_tokens, torch.Tensor) else global_tokens
        return [[self._word(self.vocabulary, token) for token in row] for row in rows]

    @staticmethod
    def _word(vocabulary: WordVocabulary, token: int) -> str:
        if not 0 <= token < len(vocabulary):
            raise ValueError(
                f"global_tokens must lie in [0, {len(vocabulary)}), found {token}: it is no place in the codebook "
                "(the language model's own ids are another matter, see `global_token_ids`)."
            )
        return vocabulary.words[token]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs):
        """As `ProcessorMixin.from_pretrained`; reads `codebook.json` too."""
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        processor.vocabulary = WordVocabulary.from_pretrained(pretrained_model_name_or_path, **kwargs)
        return processor

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs):
        """As `ProcessorMixin.save_pretrained`; writes `codebook.json` too."""
        written = super().save_pretrained(save_directory, **kwargs)
        if self.vocabulary is not None:
            self.vocabulary.save(save_directory)
        return written


__all__ = ["V2LProcessor"]
