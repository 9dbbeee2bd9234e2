"""The local codebook: one vector for every entry of a language model's vocabulary.

V2L Tokenizer, arXiv 2403.07874, section 3.2; the kinds are the rows of table 6: the language model's own input
embeddings, or the entries' texts embedded by the joint encoder (which the model's projector may map further).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

from ..encoders import load_joint_encoder
from ..errors import UserError
from ..language import LanguageModel, choose_device, entry_texts, load_language_model, load_text_tokenizer, table_of
from ..modeling.vocabulary_v2l import LocalVocabulary
from .embedding import TextEncoder, embed_texts
from .steps import ChunkFolder, digest, package_version, replacing
from .templates import resolve_templates
from .tensor_files import require_digest, require_files, tensor_digest

WORDS_FILE = "local_vocabulary.json"
TENSORS_FILE = "local_codebook.safetensors"
PROVENANCE_FILE = "local_codebook.json"
STEPS_FOLDER = "steps"
KINDS = ("text", "llm")


@dataclass(frozen=True, eq=False)
class LocalCodebook:
    """K vectors of E dimensions, row i for the token id i of a language model.

    Args:
        embeddings: float32 [K, E], finite.
        vocabulary: The K entries' texts.
        provenance: What the codebook was made from, as JSON values; `save` adds the digests.

    Raises:
        UserError: There are not as many texts as vectors, or a vector is not finite.
    """

    embeddings: torch.Tensor
    vocabulary: LocalVocabulary
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.vocabulary.words):
            raise UserError(
                f"A local codebook of {len(self.vocabulary.words)} entries needs one vector for each, found embeddings "
                f"of shape {tuple(self.embeddings.shape)}. Build it again."
            )
        broken = torch.nonzero(~self.embeddings.isfinite().all(1)).flatten()
        if len(broken):
            raise UserError(
                f"{len(broken)} vectors of the local codebook are not finite, the first is that of entry "
                f"{broken[0].item()}: no latent could be compared with them. Build it again, in float32."
            )

    def __len__(self) -> int:
        return len(self.embeddings)

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Writes `local_vocabulary.json`, `local_codebook.safetensors` and, last, `local_codebook.json`.

        Args:
            folder: Made if it does not exist.
            dtype: How the embeddings are stored: float32, or float16 for half the size.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stored = self.embeddings.to(dtype).contiguous()
        with replacing(folder / TENSORS_FILE) as aside:
            save_file({"embeddings": stored}, aside)
        self.vocabulary.save(folder)
        provenance = {
            **self.provenance,
            "embeddings_sha256": tensor_digest(stored),
            "words_sha256": digest(self.vocabulary.words),
        }
        with replacing(folder / PROVENANCE_FILE) as aside:
            aside.write_text(json.dumps(provenance, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "LocalCodebook":
        """Reads what `save` wrote.

        Args:
            folder: Holds the three files.

        Raises:
            UserError: A file is missing, or its content is not what was saved.
        """
        folder = Path(folder)
        require_files(folder, (PROVENANCE_FILE, WORDS_FILE, TENSORS_FILE), "local codebook")
        try:
            provenance = json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))
            vocabulary = LocalVocabulary.load(folder / WORDS_FILE)
            embeddings = load_file(folder / TENSORS_FILE)["embeddings"]
            expected, expected_words = provenance["embeddings_sha256"], provenance["words_sha256"]
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            raise UserError(
                f"{folder} holds no local codebook as it was saved ({error}): build or fetch it again."
            ) from error
        require_digest(folder, embeddings, expected)
        if digest(vocabulary.words) != expected_words:
            raise UserError(
                f"{folder}: {WORDS_FILE} is not the one that was saved with the embeddings, so tokens would be given "
                "wrong words: build or fetch the codebook again."
            )
        return cls(embeddings.float(), vocabulary, provenance)


def build_local_codebook(
    kind: str,
    llm: str = "offline",
    encoder: str = "offline",
    *,
    folder: str | Path,
    templates: str | Sequence[str] = "plain",
    device: str | None = None,
    dtype: torch.dtype = torch.float32,
    llm_dtype: str = "float32",
) -> LocalCodebook:
    """Builds a local codebook and saves it; a rerun with the same arguments continues an interrupted one.

    Args:
        kind: "text": every entry's text embedded by the joint encoder; "llm": the language model's own input
            embeddings.
        llm: The language model: "offline", a folder or a Hub id.
        encoder: The joint encoder of kind "text", as `load_joint_encoder` takes it.
        folder: Where the codebook is written; kind "text" keeps its progress in `steps` there.
        templates: Of kind "text": name of a template set or own templates; an entry's vector is the mean over them of
            the encoder's unit vectors, not normalised again, as in the published code.
        device: Where the joint encoder runs; the first accelerator by default, else the CPU.
        dtype: How the embeddings are stored, float32 or float16.
        llm_dtype: Of kind "llm": in what the language model is read; float32 loses nothing, "bfloat16" and "float16"
            take half the memory.

    Returns:
        The codebook as read back from `folder`.

    Raises:
        UserError: An argument makes no sense, a model is not there, or `folder/steps` holds results of other settings.
    """
    if kind not in KINDS:
        raise UserError(f"There is no local codebook of kind {kind!r}: choose one of {', '.join(KINDS)}.")
    folder = Path(folder)
    if kind == "text":
        resolve_templates(templates)
        tokenizer = load_text_tokenizer(llm)
        joint_encoder = load_joint_encoder(encoder, choose_device(device))
        codebook = codebook_of_texts(tokenizer, joint_encoder, folder=folder, templates=templates, llm_name=llm)
    else:
        codebook = codebook_of_language_model(load_language_model(llm, dtype=llm_dtype, device="cpu"), folder=folder)
    codebook.save(folder, dtype)
    return LocalCodebook.load(folder)


def codebook_of_texts(
    tokenizer: PreTrainedTokenizerBase,
    encoder: TextEncoder,
    *,
    folder: Path,
    templates: str | Sequence[str] = "plain",
    llm_name: str | None = None,
) -> LocalCodebook:
    """Embeds every entry of a vocabulary by its text.

    Args:
        tokenizer: The language model's, K entries.
        encoder: The joint encoder's text half, E dimensions.
        folder: Progress is kept in `steps` there.
        templates: Name of a template set or own templates.
        llm_name: What the tokenizer was loaded from.

    Returns:
        The codebook, not saved. Entries that the encoder reads alike ("dog", " dog", and " Dog" where case is ignored)
        have one vector, and of these only the first is ever the nearest: no more than `counts.distinct_vectors` of the
        entries can be used.

    Raises:
        UserError: `folder/steps` holds results of other settings, or the templates are of no use.
    """
    texts = entry_texts(tokenizer)
    _claim(folder, "text", llm_name, texts)
    embeddings = embed_texts(encoder, texts, folder=folder / STEPS_FOLDER / "embedding", templates=templates)
    provenance = {
        "kind": "text",
        "language_model": llm_name,
        "joint_encoder": encoder.name,
        "templates": list(resolve_templates(templates)),
        "counts": {
            "entries": len(texts),
            "distinct_texts": len(set(texts)),
            "distinct_vectors": len({row.tobytes() for row in embeddings}),
        },
        "package_version": package_version(),
    }
    return LocalCodebook(torch.tensor(embeddings), LocalVocabulary(texts, llm_name), provenance)


def codebook_of_language_model(language_model: LanguageModel, *, folder: Path) -> LocalCodebook:
    """Takes a language model's input embeddings.

    Args:
        language_model: The model and its tokenizer. Rows behind the tokenizer's last entry, with which many models are
            padded, are left out and counted in the provenance.
        folder: Where the codebook is going to be saved.

    Returns:
        The codebook, not saved.

    Raises:
        UserError: The model lacks vectors for entries of its tokenizer, or `folder/steps` holds results of other
            settings.
    """
    texts = entry_texts(language_model.tokenizer)
    matrix = table_of(language_model.model.get_input_embeddings()).detach()
    if len(matrix) < len(texts):
        raise UserError(
            f"{language_model.reference} has input embeddings for {len(matrix)} tokens, but its tokenizer has "
            f"{len(texts)} entries: take the tokenizer that belongs to the model, or kind 'text'."
        )
    _claim(folder, "llm", language_model.reference, texts)
    provenance = {
        "kind": "llm",
        "language_model": language_model.reference,
        "counts": {"entries": len(texts), "embedding_rows": len(matrix)},
        "package_version": package_version(),
    }
    embeddings = matrix[: len(texts)].float().cpu().clone()
    return LocalCodebook(embeddings, LocalVocabulary(texts, language_model.reference), provenance)


def _claim(folder: Path, kind: str, llm_name: str | None, texts: Sequence[str]) -> None:
    """Refuses a folder in which a codebook of another kind or language model was built."""
    ChunkFolder(folder / STEPS_FOLDER, {"kind": kind, "language_model": llm_name, "texts": digest(texts)})
