"""A question in token ids: where the prompt ends and how each answer goes on.

Knows a tokenizer, no model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile

import torch
from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Question:
    """A prompt and the answers to it, read off the encodings of the full texts.

    Many tokenizers merge the end of the prompt with the beginning of an answer. All answers of a question
    therefore begin at the first position at which any of the encodings leaves the others, and are treated
    alike.

    Args:
        prompt_ids: The tokens that the prompt and all answers share, T of them.
        answer_ids: For each answer its tokens from position T onwards, at least one.
        overlap: The text at the prompt's end that is written again by the answers' tokens; mostly "".
    """

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[tuple[int, ...], ...]
    overlap: str


def encode_question(tokenizer: PreTrainedTokenizerBase, prompt: str, answers: Sequence[str] = ()) -> Question:
    """Encodes `prompt` alone and followed by each answer, and finds where the encodings part.

    Args:
        tokenizer: The language model's tokenizer; special tokens are added as it always does.
        prompt: The text up to the answer.
        answers: The texts that may follow, leading space included. Without any the prompt stays whole.

    Returns:
        The question in token ids.
    """
    prompt_ids, *full_ids = _encode(tokenizer, [prompt, *(prompt + answer for answer in answers)])
    start = common_prefix_length([prompt_ids, *full_ids])
    # An answer without a token of its own could not be scored.
    start = min([start, *(len(ids) - 1 for ids in full_ids)])
    return Question(
        prompt_ids=tuple(prompt_ids[:start]),
        answer_ids=tuple(tuple(ids[start:]) for ids in full_ids),
        overlap=text_behind(tokenizer, prompt_ids[:start], prompt_ids[start:]),
    )


def text_behind(tokenizer: PreTrainedTokenizerBase, before: Sequence[int], ids: Sequence[int]) -> str:
    """The text of tokens that stand behind others, its leading space included.

    Sentencepiece tokenizers drop spaces of the first token that they decode, so the last one before goes first.

    Args:
        tokenizer: Whose tokens they are.
        before: The tokens before; only the last one counts.
        ids: The tokens whose text is wanted.

    Returns:
        The text, without special tokens.
    """
    head, whole = (
        tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for tokens in ([*before[-1:]], [*before[-1:], *ids])
    )
    return str(whole).removeprefix(str(head))


def common_prefix_length(sequences: Sequence[Sequence[int] | Sequence[int | str]]) -> int:
    """How many tokens all `sequences` begin with together."""
    columns = zip(*sequences, strict=False)  # of any lengths: what is common ends with the shortest
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def batches(lengths: Sequence[int], batch_size: int, mixed_lengths: bool) -> Iterator[list[int]]:
    """Sorts sequences by length and cuts them into batches.

    Args:
        lengths: The length of each sequence.
        batch_size: The most sequences in one batch.
        mixed_lengths: Whether a batch may hold sequences of different lengths, which then have to be padded.

    Yields:
        Indices into `lengths`.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for _, group in groupby(order, key=lambda index: 0 if mixed_lengths else lengths[index]):
        indices = list(group)
        for begin in range(0, len(indices), batch_size):
            yield indices[begin : begin + batch_size]


def pad(sequences: Sequence[Sequence[int]], side: str, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Stacks sequences of different lengths.

    Args:
        sequences: B sequences of token ids, the longest of T tokens.
        side: "left" or "right": where the padding goes.
        device: Where the tensors are made.

    Returns:
        `input_ids` and `attention_mask`, both (B, T) int64; the mask is 1 on tokens and 0 on padding.
    """
    longest = max(len(sequence) for sequence in sequences)
    input_ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, sequence in enumerate(sequences):
        begin = longest - len(sequence) if side == "left" else 0
        input_ids[row, begin : begin + len(sequence)] = torch.tensor(sequence)
        attention_mask[row, begin : begin + len(sequence)] = 1
    return input_ids.to(device), attention_mask.to(device)


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    # Tokenizers that close a text with an end token would end the prompt before it is answered.
    encodings = tokenizer(list(texts), padding=False, truncation=False, verbose=False)["input_ids"]
    end = tokenizer.eos_token_id
    return [ids[:-1] if end is not None and ids and ids[-1] == end else list(ids) for ids in encodings]
