"""The words of both codebooks: what stands beside the weights in a model folder.

`codebook.json` holds the global words, `local_vocabulary.json` the language model's own entries, which the local
tokens are numbers of. Knows words and ids, no vectors. Level 0: imports nothing from this folder.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from transformers.utils import cached_file

FILE_NAME = "codebook.json"
LOCAL_FILE_NAME = "local_vocabulary.json"
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


@dataclass(frozen=True)
class WordVocabulary:
    """The entries of a global codebook, in the codebook's order.

    Args:
        words: N texts, subwords, bigrams or trigrams of a language model's vocabulary.
        token_ids: The language model's own ids for each of them.
        kinds: "subword", "bigram" or "trigram" for each.
        groups: A group number for each; an image is given at most one word of a group (copies in case or number).
        provenance: Where it comes from: language model, joint encoder, templates, filter, image set, counts, digests.
    """

    words: list[str]
    token_ids: list[list[int]]
    kinds: list[str]
    groups: list[int]
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        counts = {len(self.words), len(self.token_ids), len(self.kinds), len(self.groups)}
        if len(counts) != 1:
            raise ValueError(
                f"A vocabulary needs one entry per word in every list, got {len(self.words)} words, "
                f"{len(self.token_ids)} token_ids, {len(self.kinds)} kinds and {len(self.groups)} groups."
            )

    def __len__(self) -> int:
        return len(self.words)

    @property
    def digest(self) -> str:
        """SHA-256 of words and token ids, as hexadecimal digits."""
        content = json.dumps([self.words, self.token_ids], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def save(self, folder: str | os.PathLike) -> Path:
        """Writes `codebook.json` into `folder`, one entry a line.

        Returns:
            The file's path.
        """
        rows = zip(self.words, self.token_ids, self.kinds, self.groups, strict=True)
        entries = ",\n".join(json.dumps(list(row), ensure_ascii=False) for row in rows)
        provenance = json.dumps({**self.provenance, "words_sha256": self.digest}, ensure_ascii=False, indent=1)
        path = Path(folder) / FILE_NAME
        path.write_text(
            f'{{"provenance": {provenance},\n"columns": ["word", "token_ids", "kind", "group"],\n'
            f'"entries": [\n{entries}\n]}}\n',
            encoding="utf-8",
        )
        return path

    @classmethod
    def load(cls, path: str | Path) -> "WordVocabulary":
        """Reads a `codebook.json`.

        Args:
            path: The file.

        Raises:
            ValueError: If the words do not belong to the digest that was written with them.
        """
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        columns = [list(column) for column in zip(*content["entries"], strict=True)] or [[], [], [], []]
        vocabulary = cls(*columns, provenance=content["provenance"])
        expected = vocabulary.provenance.get("words_sha256")
        if expected != vocabulary.digest:
            raise ValueError(
                f"{path}: the words do not match their digest (found {vocabulary.digest[:12]}, expected "
                f"{str(expected)[:12]}), so tokens would be given wrong words: fetch the file again or build the "
                "codebook anew."
            )
        return vocabulary

    @classmethod
    def from_pretrained(cls, folder_or_id: str | os.PathLike, **kwargs) -> "WordVocabulary | None":
        """Loads the vocabulary of a saved model.

        Args:
            folder_or_id: A model folder or a Hub id.
            **kwargs: Those of `transformers.utils.cached_file` that `from_pretrained` was called with.

        Returns:
            The vocabulary, or None where the model has no `codebook.json`.
        """
        path = _find(folder_or_id, FILE_NAME, kwargs)
        return None if path is None else cls.load(path)


@dataclass(frozen=True)
class LocalVocabulary:
    """The entries of a local codebook: local token i is the language model's token i.

    Args:
        words: K texts, each entry as the language model's text tokenizer writes it.
        language_model: Reference of that language model.
    """

    words: list[str]
    language_model: str | None = None

    def __len__(self) -> int:
        return len(self.words)

    def save(self, folder: str | os.PathLike) -> Path:
        """Writes `local_vocabulary.json` into `folder`.

        Returns:
            The file's path.
        """
        path = Path(folder) / LOCAL_FILE_NAME
        content = {"language_model": self.language_model, "words": self.words}
        path.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | Path) -> "LocalVocabulary":
        """Reads a `local_vocabulary.json`."""
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(content["words"], content["language_model"])

    @classmethod
    def from_pretrained(cls, folder_or_id: str | os.PathLike, **kwargs) -> "LocalVocabulary | None":
        """As `WordVocabulary.from_pretrained`."""
        path = _find(folder_or_id, LOCAL_FILE_NAME, kwargs)
        return None if path is None else cls.load(path)


def _find(folder_or_id: str | os.PathLike, name: str, kwargs: dict) -> str | None:
    """Path of a saved model's file, fetched where need be; None where it has none."""
    hub_arguments = {key: kwargs[key] for key in HUB_ARGUMENTS if kwargs.get(key) is not None}
    return cached_file(str(folder_or_id), name, _raise_exceptions_for_missing_entries=False, **hub_arguments)


__all__ = ["LocalVocabulary", "WordVocabulary"]
