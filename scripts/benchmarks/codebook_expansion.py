"""Vocabulary expansion: one prefix cache and large batches against one `generate` call per entry."""

import tempfile
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from visual_sentence.codebook import Entry, Item, expand_vocabulary, vocabulary_entries
from visual_sentence.codebook.expansion import PROMPT_PREFIX, encode_prompts
from visual_sentence.codebook.vocabulary import readable_texts

from .common import Measurement, timed

# New tokens of an item of each kind.
NEW_TOKENS = {"bigram": 1, "trigram": 2}


def run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    entries: int = 512,
    reference_entries: int = 24,
    rounds: int = 3,
    setting: dict[str, Any] | None = None,
) -> Measurement:
    """Measures both ways on entries spread evenly over the vocabulary.

    Args:
        model: The language model.
        tokenizer: Its tokenizer.
        entries: Entries that our way expands to bigrams and trigrams.
        reference_entries: Of these, how many are also given to `generate` one at a time.
        rounds: How often both ways are measured in turn; the fastest of each counts, as others may use the
            machine too.
        setting: Further facts for the report.

    Returns:
        Seconds of both ways for `reference_entries` entries; ours is scaled down from `entries`.
    """
    vocabulary = vocabulary_entries(tokenizer)
    chosen = _spread(vocabulary, entries)
    compared = _spread(chosen, reference_entries)
    # The first pass allocates memory and picks kernels; a batch of the full size warms up our way.
    _expand(model, tokenizer, chosen)
    _generate(model, tokenizer, compared[:2])
    ours_s = reference_s = float("inf")
    for _ in range(rounds):
        ours, seconds = timed(lambda: _expand(model, tokenizer, chosen))
        ours_s = min(ours_s, seconds)
        reference, seconds = timed(lambda: _generate(model, tokenizer, compared))
        reference_s = min(reference_s, seconds)
    return Measurement(
        name="codebook-expansion",
        setting={
            "entries": len(chosen),
            "reference_entries": len(compared),
            "seconds_are_for_entries": len(compared),
            "fastest_of_rounds": rounds,
            "dtype": str(model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            **(setting or {}),
        },
        ours_s=ours_s / len(chosen) * len(compared),
        reference_s=reference_s,
        same_result=_continuations(ours, tokenizer, compared) == _readable_start(reference, tokenizer),
    )


def _spread(entries: Sequence[Entry], count: int) -> list[Entry]:
    count = min(count, len(entries))
    return [entries[i * len(entries) // count] for i in range(count)]


def _expand(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, entries: Sequence[Entry]) -> list[Item]:
    with tempfile.TemporaryDirectory() as folder:
        return expand_vocabulary(entries, tokenizer, folder=Path(folder), model=model)


def _generate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, entries: Sequence[Entry]) -> list[list[int]]:
    """Per entry the two next tokens, or fewer where the model ends the text."""
    found = []
    for entry in entries:
        inputs = tokenizer(f"{PROMPT_PREFIX} {entry.text}", return_tensors="pt").to(model.device)
        prompt, mask = inputs["input_ids"], inputs["attention_mask"]
        output = model.generate(
            prompt,
            attention_mask=mask,
            max_new_tokens=2,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id or 0,
        )
        found.append(output[0, prompt.shape[1] :].tolist())
    return found


def _readable_start(tokens: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Cuts each list before its first token that ends no item."""
    readable = readable_texts(tokenizer)
    return [list(takewhile(readable.__contains__, row)) for row in tokens]


def _continuations(
    items: Sequence[Item], tokenizer: PreTrainedTokenizerBase, entries: Sequence[Entry]
) -> list[list[int]]:
    """Per entry the tokens that its longest item adds to it."""
    longest = {item.token_ids[: -NEW_TOKENS[item.kind]]: item for item in items if item.kind != "subword"}
    suffixes = encode_prompts(tokenizer, [entry.text for entry in entries]).suffixes
    found = (longest.get(tuple(suffix)) for suffix in suffixes)
    return [list(item.token_ids[-NEW_TOKENS[item.kind] :]) if item else [] for item in found]
