"""The global codebook as an object and as files."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import UserError
from ..modeling.vocabulary_v2l import FILE_NAME as WORDS_FILE
from ..modeling.vocabulary_v2l import WordVocabulary
from .steps import replacing
from .tensor_files import require_digest, require_files, tensor_digest

TENSORS_FILE = "codebook.safetensors"


@dataclass(frozen=True, eq=False)
class GlobalCodebook:
    """N words of a language model with their places in a joint image-text space of D dimensions.

    The words of an image with unit feature f are those with the largest
    `normalize(f - image_center) @ embeddings.T`; without centring `image_center` is zero and this is f
    itself.

    Args:
        words: N distinct texts.
        token_ids: Per word the language model's ids, as in "a photo of {word}".
        kinds: Per word "subword", "bigram" or "trigram".
        groups: Per word the number of its group; copies in case and number share one.
        embeddings: float32 [N, D].
        image_center: float32 [D], the mean image feature, or zeros where the codebook is not centred.
        provenance: What the codebook was made from, as JSON values; `save` adds the digests.

    Raises:
        UserError: The parts do not have the same length.
    """

    words: list[str]
    token_ids: list[list[int]]
    kinds: list[str]
    groups: list[int]
    embeddings: torch.Tensor
    image_center: torch.Tensor
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in ("words", "token_ids", "kinds", "groups", "embeddings")}
        if len(set(lengths.values())) != 1:
            found = ", ".join(f"{length} {name}" for name, length in lengths.items())
            raise UserError(f"The parts of a codebook must be of one length, found {found}. Build it again.")
        if self.image_center.shape != self.embeddings.shape[1:]:
            raise UserError(
                f"image_center has shape {tuple(self.image_center.shape)}, but the embeddings have "
                f"{self.embeddings.shape[1]} dimensions, so images and words cannot be compared. "
                "Build it again."
            )

    def __len__(self) -> int:
        return len(self.words)

    def vocabulary(self) -> WordVocabulary:
        """The codebook without its vectors."""
        return WordVocabulary(self.words, self.token_ids, self.kinds, self.groups, self.provenance)

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Writes `codebook.json` (one word per line) and `codebook.safetensors`.

        Args:
            folder: Made if it does not exist.
            dtype: How the embeddings are stored: float32, or float16 for half the size.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stored = self.embeddings.to(dtype).contiguous()
        with replacing(folder / TENSORS_FILE) as aside:
            save_file({"embeddings": stored, "image_center": self.image_center.contiguous()}, aside)
        provenance = {**self.provenance, "embeddings_sha256": tensor_digest(stored)}
        replace(self, provenance=provenance).vocabulary().save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "GlobalCodebook":
        """Reads what `save` wrote.

        Args:
            folder: Holds `codebook.json` and `codebook.safetensors`.

        Raises:
            UserError: A file is missing, or its content is not what was saved.
        """
        folder = Path(folder)
        require_files(folder, (WORDS_FILE, TENSORS_FILE), "global codebook")
        try:
            vocabulary = WordVocabulary.load(folder / WORDS_FILE)
            tensors = load_file(folder / TENSORS_FILE)
            embeddings, expected = tensors["embeddings"], vocabulary.provenance["embeddings_sha256"]
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            raise UserError(
                f"{folder} holds no codebook as it was saved ({error}): build or fetch it again."
            ) from error
        require_digest(folder, embeddings, expected)
        return cls(
            vocabulary.words,
            vocabulary.token_ids,
            vocabulary.kinds,
            vocabulary.groups,
            embeddings=embeddings.float(),
            image_center=tensors["image_center"],
            provenance=vocabulary.provenance,
        )
