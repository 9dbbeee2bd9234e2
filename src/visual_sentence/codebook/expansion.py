"""Vocabulary expansion: bigrams and trigrams that a language model writes by itself.

V2L Tokenizer, arXiv 2403.07874, section 3.2 and appendix A with figure 9: the prompt "a photo of" and an
entry is given to the language model; its M most probable next tokens make M bigrams, and each bigram, asked
again, makes M trigrams.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import UserError
from ..modeling.cache_names import CACHE, cache_argument, cache_of
from ..progress import progress_bar
from .steps import ChunkFolder, digest
from .vocabulary import Entry, readable_texts

PROMPT_PREFIX = "a photo of"
KINDS = ("subword", "bigram", "trigram")
NO_TOKEN = -1


@dataclass(frozen=True)
class Item:
    """One candidate for the codebook.

    Args:
        text: The words, white space normalised and stripped.
        token_ids: The language model's ids of the words where they follow "a photo of".
        kind: "subword", "bigram" or "trigram": how many times the language model was asked, plus one.
    """

    text: str
    token_ids: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class Prompts:
    """The prompts of all entries, cut where they part.

    Args:
        prefix_ids: The ids that every prompt starts with, P of them.
        suffixes: Per entry the ids behind those, at least one.
    """

    prefix_ids: list[int]
    suffixes: list[list[int]]


def encode_prompts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Prompts:
    """Encodes "a photo of {text}" for each text and splits off the start that all share.

    Args:
        tokenizer: The language model's tokenizer.
        texts: The entries, N of them.

    Returns:
        The shared ids and N suffixes.

    Raises:
        UserError: The prompts share no id, so the words have no ids of their own in this tokenizer.
    """
    encoded = tokenizer([f"{PROMPT_PREFIX} {text}" for text in texts])["input_ids"]
    # The bare prefix takes part: entries that all begin alike would lose their first ids otherwise.
    shared = _common_start([tokenizer(PROMPT_PREFIX)["input_ids"], *(ids[:-1] for ids in encoded)])
    if not shared:
        raise UserError(
            f"The tokenizer {tokenizer.name_or_path!r} begins no two prompts '{PROMPT_PREFIX} ...' alike, so "
            "the words cannot be told from the prompt. Use a tokenizer that works from left to right."
        )
    return Prompts(shared, [ids[len(shared) :] for ids in encoded])


def _common_start(sequences: Sequence[list[int]]) -> list[int]:
    # The smallest and the largest sequence differ at least as early as any two others.
    low, high = min(sequences), max(sequences)
    differs = (i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b)  # of any lengths
    return low[: next(differs, min(len(low), len(high)))]


class PrefixReader:
    """A causal language model that reads the shared prefix once, then many suffixes at a time.

    Args:
        model: Any causal language model of transformers with a key-value cache.
        prefix_ids: The ids that every prompt starts with.
    """

    def __init__(self, model: PreTrainedModel, prefix_ids: Sequence[int]):
        self.model = model
        # The head over the whole vocabulary costs as much as eight layers of a 135M model: once per prompt.
        accepts = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepts else {}
        self._prefix_cache = self.next_logits(torch.tensor([list(prefix_ids)]), cache=None)[1]

    def new_cache(self, batch_size: int) -> Cache:
        """A cache that holds the prefix for each of `batch_size` sequences."""
        cache = copy.deepcopy(self._prefix_cache)
        cache.batch_repeat_interleave(batch_size)
        return cache

    @torch.inference_mode()
    def next_logits(self, input_ids: torch.Tensor, cache: Cache | None) -> tuple[torch.Tensor, Cache]:
        """Reads `input_ids` behind what `cache` holds; the cache grows.

        Args:
            input_ids: int64 [B, L], no padding.
            cache: What was read before, or None at the very start.

        Returns:
            The logits [B, V] of the token that follows, in the model's dtype, and the grown cache.
        """
        own = {cache_argument(self.model) or CACHE: cache}
        output = self.model(input_ids.to(self.model.device), use_cache=True, **own, **self._last_only)
        return output.logits[:, -1], cache_of(output)


@torch.inference_mode()
def continue_suffixes(
    reader: PrefixReader, suffixes: torch.Tensor, *, readable: torch.Tensor, ngrams: int, continuations: int
) -> torch.Tensor:
    """Asks for the tokens that follow each suffix, and for those that follow these.

    Args:
        reader: The language model behind the shared prefix.
        suffixes: int64 [B, L], all of one length, so that nothing is padded.
        readable: bool [V], the tokens that a bigram or trigram may end in.
        ngrams: 2 for bigrams, 3 for trigrams too.
        continuations: M, how many of the most probable tokens are taken each time.

    Returns:
        int64 [B, M, 1] for bigrams or [B, M, 1 + M] for trigrams: first a next token, then those after it. -1
        where there is none: the token is not readable, or comes behind one that is not.
    """
    logits, cache = reader.next_logits(suffixes, reader.new_cache(len(suffixes)))
    second = _most_probable(logits, continuations)
    keep = readable.to(second.device)
    result = torch.full((len(suffixes), continuations, continuations + 1), NO_TOKEN, device=second.device)
    result[..., 0] = torch.where(keep[second], second, NO_TOKEN)
    if ngrams == 2:
        return result[..., :1]
    rows, columns = torch.nonzero(keep[second], as_tuple=True)
    if len(rows):
        cache.batch_select_indices(rows)
        logits, _ = reader.next_logits(second[rows, columns].unsqueeze(1), cache)
        third = _most_probable(logits, continuations)
        result[rows, columns, 1:] = torch.where(keep[third], third, NO_TOKEN)
    return result


def _most_probable(logits: torch.Tensor, count: int) -> torch.Tensor:
    # argmax is what greedy generation takes; topk may break ties in another way, and bfloat16 logits do tie.
    return logits.argmax(-1, keepdim=True) if count == 1 else logits.topk(count).indices


def expand_vocabulary(
    entries: Sequence[Entry],
    tokenizer: PreTrainedTokenizerBase,
    *,
    folder: Path,
    model: PreTrainedModel | None = None,
    llm_name: str = "",
    ngrams: int = 3,
    continuations: int = 1,
    batch_size: int = 256,
    chunk_size: int = 4096,
) -> list[Item]:
    """Expands a vocabulary by the bigrams and trigrams that the language model continues its entries with.

    The tokens are those of greedy generation from the whole prompt, one entry at a time
    (`generate(max_new_tokens=2, do_sample=False)` without further logits processors, where M is 1). A token
    that is special, is part of a character or decodes to blanks ends no item, and what would have followed
    it is dropped too. A rerun with the same settings continues an interrupted run.

    Args:
        entries: The vocabulary, N entries.
        tokenizer: The language model's tokenizer.
        folder: Where progress is kept; not used with `ngrams=1`.
        model: The language model; not needed with `ngrams=1`.
        llm_name: What the language model was loaded from, to tell its results from another's.
        ngrams: 1 for the entries alone, 2 adds bigrams, 3 adds trigrams.
        continuations: M, the next tokens taken each time.
        batch_size: Sequences per forward pass.
        chunk_size: Entries per file of saved progress.

    Returns:
        N subwords, then at most N x M bigrams, then at most N x M x M trigrams. Texts may repeat.

    Raises:
        UserError: `folder` holds results of other settings, or a language model is needed and none was given.
    """
    prompts = encode_prompts(tokenizer, [entry.text for entry in entries])
    subwords = [Item(entry.text, tuple(ids), KINDS[0]) for entry, ids in zip(entries, prompts.suffixes, strict=True)]
    if ngrams == 1:
        return subwords
    if model is None:
        raise UserError(f"ngrams={ngrams} asks the language model for continuations: give one, or use ngrams=1.")
    found = _continuation_ids(
        model, tokenizer, prompts, folder, llm_name, ngrams, continuations, batch_size, chunk_size
    )
    return subwords + _longer_items(tokenizer, prompts.suffixes, found)


def _continuation_ids(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Prompts,
    folder: Path,
    llm_name: str,
    ngrams: int,
    continuations: int,
    batch_size: int,
    chunk_size: int,
) -> np.ndarray:
    """The answers of `continue_suffixes` for all prompts, int32; progress is kept in `folder`."""
    settings = {
        "language_model": llm_name,
        "parameters": model.num_parameters(),
        "dtype": str(model.dtype),
        "prompts": digest([prompts.prefix_ids, prompts.suffixes]),
        "ngrams": ngrams,
        "continuations": continuations,
        "chunk_size": chunk_size,
    }
    progress = ChunkFolder(folder, settings)
    # Neighbours of one length share a forward pass without padding.
    order = sorted(range(len(prompts.suffixes)), key=lambda i: len(prompts.suffixes[i]))
    if progress.rows < len(order):
        ask = partial(
            continue_suffixes,
            PrefixReader(model, prompts.prefix_ids),
            readable=_readable_mask(model, tokenizer),
            ngrams=ngrams,
            continuations=continuations,
        )
        # M trigram prompts come from each bigram prompt: the larger of the two batches is meant.
        prompts_per_batch = max(1, batch_size // continuations)
        _ask_in_chunks(ask, [prompts.suffixes[i] for i in order], progress, chunk_size, prompts_per_batch)
    return np.concatenate(list(progress))[np.argsort(order)]


def _readable_mask(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """Which tokens may end a bigram or trigram, bool [V]."""
    token_ids = list(readable_texts(tokenizer))
    # Models may have more logits than tokens, and tokenizers more tokens than the model has logits.
    mask = torch.zeros(max(model.config.get_text_config().vocab_size, *token_ids) + 1, dtype=torch.bool)
    mask[token_ids] = True
    return mask


def _ask_in_chunks(
    ask: Callable[[torch.Tensor], torch.Tensor],
    suffixes: Sequence[list[int]],
    progress: ChunkFolder,
    chunk_size: int,
    batch_size: int,
) -> None:
    """Asks for what `progress` does not hold yet, batch by batch, and saves chunk by chunk."""
    done = progress.rows
    with progress_bar("Expanding the vocabulary", len(suffixes), done=done) as bar:
        for start in range(done, len(suffixes), chunk_size):
            answers = []
            for batch in _equal_length_batches(suffixes[start : start + chunk_size], batch_size):
                answers.append(ask(torch.tensor(batch)).to("cpu", torch.int32))
                bar.advance(len(batch))
            progress.append(torch.cat(answers).numpy())


def _equal_length_batches(suffixes: Sequence[list[int]], batch_size: int) -> Iterator[list[list[int]]]:
    for _, group in groupby(suffixes, key=len):
        members = list(group)
        yield from (members[i : i + batch_size] for i in range(0, len(members), batch_size))


def _longer_items(tokenizer: PreTrainedTokenizerBase, suffixes: Sequence[list[int]], found: np.ndarray) -> list[Item]:
    """Bigrams, then trigrams, in the order of the entries, from what `continue_suffixes` found."""
    bigrams, trigrams = [], []
    for suffix, continuations in zip(suffixes, found.tolist(), strict=True):
        for second, *thirds in continuations:
            if second != NO_TOKEN:
                bigrams.append((*suffix, second))
                trigrams.extend((*suffix, second, third) for third in thirds if third != NO_TOKEN)
    token_ids = bigrams + trigrams
    kinds = [KINDS[1]] * len(bigrams) + [KINDS[2]] * len(trigrams)
    texts = tokenizer.batch_decode(token_ids, clean_up_tokenization_spaces=False)
    return [Item(" ".join(t.split()), ids, kind) for t, ids, kind in zip(texts, token_ids, kinds, strict=True)]


def distinct_items(items: Sequence[Item]) -> list[Item]:
    """Keeps the first item of each text, so that a copy cannot take a second of an image's top places."""
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(item.text, item)
    return list(first.values())
