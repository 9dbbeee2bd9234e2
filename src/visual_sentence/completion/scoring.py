"""How likely each answer is: sums of token log-probabilities, with the shared prefix cached or the plain way.

Knows questions in token ids and a causal language model, no text.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from .prefix_cache import SharedPrefix, last_logits, select_rows
from .questions import Question, batches, pad


@torch.inference_mode()
def plain_log_likelihoods(questions: Sequence[Question], model: PreTrainedModel) -> torch.Tensor:
    """Scores every answer with a forward pass of its own over the whole text.

    The slow way, and the definition of what `cached_log_likelihoods` computes.

    Args:
        questions: Q questions with L answers each.
        model: A causal language model.

    Returns:
        (Q, L) float32 on the CPU: natural log-likelihood of each answer, summed over its tokens.
    """
    scores = torch.empty(len(questions), len(questions[0].answer_ids))
    for row, question in enumerate(questions):
        for column, answer in enumerate(question.answer_ids):
            input_ids = torch.tensor([[*question.prompt_ids, *answer]], device=model.device)
            logits = last_logits(model, count=len(answer) + 1, input_ids=input_ids)[0, :-1]
            log_probs = logits.float().log_softmax(-1)
            scores[row, column] = log_probs.gather(-1, input_ids[0, -len(answer) :, None]).sum()
    return scores


@torch.inference_mode()
def cached_log_likelihoods(questions: Sequence[Question], prefix: SharedPrefix, batch_size: int) -> torch.Tensor:
    """Scores every answer in three levels: the shared prefix once, then batches of queries, then of answers.

    Args:
        questions: Q questions with L answers each.
        prefix: Holds the model, and the cache of what the prompts share.
        batch_size: The most rows in one forward pass.

    Returns:
        (Q, L) float32 on the CPU: natural log-likelihood of each answer, summed over its tokens.
    """
    length = prefix.move_to([question.prompt_ids for question in questions])
    suffixes = [question.prompt_ids[length:] for question in questions]
    scores = torch.empty(len(questions), len(questions[0].answer_ids))
    for rows in batches([len(suffix) for suffix in suffixes], batch_size, prefix.allows_padding):
        input_ids, suffix_mask = pad([suffixes[row] for row in rows], "left", prefix.model.device)
        mask = torch.cat([suffix_mask.new_ones(len(rows), length), suffix_mask], dim=1)  # (B, P + T)
        cache = prefix.rows(len(rows))
        logits = last_logits(
            prefix.model,
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=_positions(mask, input_ids.shape[1]),
            cache=cache,
        )
        first_log_probs = logits[:, -1].float().log_softmax(-1)  # (B, V)
        batch = [questions[row] for row in rows]
        first_ids = torch.tensor([[ids[0] for ids in question.answer_ids] for question in batch])  # (B, L)
        scores[rows] = first_log_probs.gather(-1, first_ids.to(first_log_probs.device)).cpu()
        scores[rows] += _continuation_log_likelihoods(batch, prefix, cache, mask, batch_size)
    return scores


def _continuation_log_likelihoods(
    questions: Sequence[Question], prefix: SharedPrefix, cache: Cache, mask: torch.Tensor, batch_size: int
) -> torch.Tensor:
    """The part of each answer's log-likelihood that comes after its first token.

    Args:
        questions: B questions with L answers each.
        prefix: Holds the model.
        cache: Keys and values of the B prompts, S entries each.
        mask: (B, S) int64, 0 where the cache holds padding.
        batch_size: The most rows in one forward pass.

    Returns:
        (B, L) float32 on the CPU; 0 for answers of a single token.
    """
    scores = torch.zeros(len(questions), len(questions[0].answer_ids))
    pairs = [
        (row, column)
        for row, question in enumerate(questions)
        for column, ids in enumerate(question.answer_ids)
        if len(ids) > 1
    ]
    inputs = [questions[row].answer_ids[column][:-1] for row, column in pairs]
    targets = [questions[row].answer_ids[column][1:] for row, column in pairs]
    for group in batches([len(ids) for ids in inputs], batch_size, prefix.allows_padding):
        rows, columns = zip(*(pairs[index] for index in group), strict=True)
        input_ids, answer_mask = pad([inputs[index] for index in group], "right", mask.device)
        target_ids, _ = pad([targets[index] for index in group], "right", mask.device)
        full_mask = torch.cat([mask[list(rows)], answer_mask], dim=1)  # (G, S + T)
        logits = last_logits(
            prefix.model,
            count=input_ids.shape[1],
            input_ids=input_ids,
            attention_mask=full_mask,
            position_ids=_positions(full_mask, input_ids.shape[1]),
            cache=select_rows(cache, rows),
        )
        log_probs = logits.float().log_softmax(-1).gather(-1, target_ids[..., None])[..., 0]  # (G, T)
        scores[list(rows), list(columns)] = (log_probs * answer_mask).sum(-1).cpu()
    return scores


def _positions(mask: torch.Tensor, count: int) -> torch.Tensor:
    """Positions of the last `count` columns of a mask (B, S), counted over tokens and not over padding."""
    return (mask.cumsum(-1) - 1).clamp(min=0)[:, -count:]
