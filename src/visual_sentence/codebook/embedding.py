"""Embeds many texts with the text half of a joint encoder, averaged over prompt templates.

V2L Tokenizer, arXiv 2403.07874, section 3.2; the average over CLIP's templates is that of the published code,
https://github.com/zh460045050/V2L-Tokenizer, step2_generate_codebook_embedding.py.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from ..progress import progress_bar
from .steps import ChunkFolder, digest, replacing
from .templates import fill_template, resolve_templates

EMBEDDINGS_FILE = "embeddings.npy"


class TextEncoder(Protocol):
    """The part of a joint encoder that reads text."""

    @property
    def name(self) -> str:
        """What records call it."""

    @property
    def embedding_dim(self) -> int:
        """D, width of its vectors."""

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids per text with special tokens, not padded."""

    def encode_token_ids(self, batch: list[list[int]]) -> torch.Tensor:
        """Unit vectors, float32 [B, D], of token ids of any lengths."""


def embed_texts(
    encoder: TextEncoder,
    texts: Sequence[str],
    *,
    folder: Path,
    templates: str | Sequence[str] = "plain",
    renormalize: bool = False,
    token_budget: int = 1024,
    chunk_prompts: int = 8192,
) -> np.ndarray:
    """Embeds each text as the mean over the templates of the encoder's unit vectors.

    Equal prompts are encoded once. "Equal" means the encoder's token ids, so that case copies cost nothing
    with an encoder that ignores case. A rerun with the same settings continues an interrupted run.

    Args:
        encoder: The joint encoder's text half, D dimensions.
        texts: N texts; they may repeat.
        folder: Where progress and the result (`embeddings.npy`) are kept.
        templates: Name of a template set or own templates, T of them.
        renormalize: Scales the mean to length 1; the published code does not.
        token_budget: Tokens per batch, padding included.
        chunk_prompts: About how many prompts go into each file of saved progress.

    Returns:
        float32 [N, D] in the order of `texts`, mapped from disk.

    Raises:
        UserError: `folder` holds results of other settings, or the templates are of no use.
    """
    templates = resolve_templates(templates)
    settings = {
        "encoder": encoder.name,
        "embedding_dim": encoder.embedding_dim,
        "templates": list(templates),
        "renormalize": renormalize,
        "texts": digest(list(texts)),
        "chunk_prompts": chunk_prompts,
    }
    progress = ChunkFolder(folder, settings)
    result = progress.folder / EMBEDDINGS_FILE
    if not result.exists():
        distinct = list(dict.fromkeys(texts))
        token_ids = encoder.tokenize(distinct)
        # Texts of one length fill their batches; texts of the same tokens meet in one chunk and merge there.
        order = sorted(range(len(distinct)), key=lambda i: (len(token_ids[i]), token_ids[i]))
        chunk_size = max(1, chunk_prompts // len(templates))
        with progress_bar("Embedding the words", len(distinct), done=progress.rows) as bar:
            for start in range(progress.rows, len(distinct), chunk_size):
                chunk = [distinct[i] for i in order[start : start + chunk_size]]
                features = _mean_over_templates(encoder, chunk, templates, token_budget)
                progress.append((F.normalize(features, dim=-1) if renormalize else features).numpy())
                bar.advance(len(chunk))
        position = {distinct[i]: place for place, i in enumerate(order)}
        places = np.array([position[text] for text in texts])
        with replacing(result) as aside:
            _write_in_order(progress, places, aside, encoder.embedding_dim)
    return np.load(result, mmap_mode="r")


def _mean_over_templates(
    encoder: TextEncoder, texts: Sequence[str], templates: Sequence[str], token_budget: int
) -> torch.Tensor:
    """The mean unit vector of each text, float32 [n, D], every distinct prompt encoded once."""
    token_ids = encoder.tokenize([fill_template(template, text) for text in texts for template in templates])
    rows: dict[tuple[int, ...], int] = {}
    prompt_rows = torch.tensor([rows.setdefault(tuple(ids), len(rows)) for ids in token_ids])
    distinct = [list(ids) for ids in rows]
    features = torch.empty(len(distinct), encoder.embedding_dim)
    for batch in _batches_by_length(distinct, token_budget):
        features[batch] = encoder.encode_token_ids([distinct[i] for i in batch]).float().cpu()
    return features[prompt_rows].view(len(texts), len(templates), -1).mean(1)


def _batches_by_length(token_ids: Sequence[list[int]], token_budget: int) -> Iterator[list[int]]:
    """Positions of prompts of like length; a batch times its longest member stays within the budget."""
    batch: list[int] = []
    for i in sorted(range(len(token_ids)), key=lambda i: len(token_ids[i])):
        # Ascending, so that prompt i would be the longest of the batch.
        if batch and (len(batch) + 1) * len(token_ids[i]) > token_budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _write_in_order(chunks: ChunkFolder, places: np.ndarray, path: Path, embedding_dim: int) -> None:
    """Writes row `places[n]` of all chunks to row n of a new .npy file, one chunk in memory at a time."""
    result = np.lib.format.open_memmap(path, "w+", np.float32, (len(places), embedding_dim))
    start = 0
    for chunk in chunks:
        rows = np.flatnonzero((places >= start) & (places < start + len(chunk)))
        result[rows] = chunk[places[rows] - start]
        start += len(chunk)
    result.flush()
