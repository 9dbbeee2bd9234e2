"""Greedy answers: free, or held to the labels by a logits processor; the model itself is never touched.

Knows questions in token ids and a causal language model with `generate`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.cache_utils import Cache

from ..modeling.cache_names import CACHE
from .prefix_cache import SharedPrefix
from .questions import Question, batches, pad


class AnswerConstraint(LogitsProcessor, ABC):
    """Leaves only those tokens possible with which a row's answer may go on.

    Args:
        questions: The question of each row of the batch.
        start: The column at which answers begin.
        end_id: The token that closes an answer, or None where the tokenizer has none.
    """

    def __init__(self, questions: Sequence[Question], start: int, end_id: int | None):
        end = () if end_id is None else (end_id,)
        self.closed_answers = [[ids + end for ids in question.answer_ids] for question in questions]
        self.start = start

    @staticmethod
    @abstractmethod
    def allowed(answers: Sequence[tuple[int, ...]], generated: tuple[int, ...]) -> list[int]:
        """The tokens that may follow `generated`; none where there is nothing left to write."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Sets the scores (B, V) of all other tokens to minus infinity; complete rows stay as they are."""
        bias = torch.zeros_like(scores)
        for row, (answers, ids) in enumerate(zip(self.closed_answers, input_ids.tolist(), strict=True)):
            tokens = self.allowed(answers, tuple(ids[self.start :]))
            if tokens:
                bias[row] = -torch.inf
                bias[row, tokens] = 0.0
        return scores + bias


class TrieConstraint(AnswerConstraint):
    """Every token must continue an answer: what is generated is always one of them, or its beginning."""

    @staticmethod
    def allowed(answers: Sequence[tuple[int, ...]], generated: tuple[int, ...]) -> list[int]:
        """The next tokens of the answers that begin with `generated`."""
        count = len(generated)
        return [ids[count] for ids in answers if ids[:count] == generated and len(ids) > count]


class PositionMaskConstraint(AnswerConstraint):
    """At the j-th position the j-th token of any answer may stand, so tokens of different answers can mix.

    The decoding of the V2L Tokenizer's published code, where an answer may likewise end where any label ends.
    That code multiplies the other logits by zero; here they are excluded.
    """

    @staticmethod
    def allowed(answers: Sequence[tuple[int, ...]], generated: tuple[int, ...]) -> list[int]:
        """The tokens that the answers have at the position after `generated`."""
        count = len(generated)
        return [ids[count] for ids in answers if len(ids) > count]


CONSTRAINTS = {"trie": TrieConstraint, "position-mask": PositionMaskConstraint}


class AnswerDecided(StoppingCriteria):
    """Ends a row as soon as a single answer begins with what was generated: the rest of it is known.

    Args:
        questions: The question of each row of the batch.
        start: The column at which answers begin.
    """

    def __init__(self, questions: Sequence[Question], start: int):
        self.questions, self.start = questions, start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        """(B,) bool: which rows are decided."""
        decided = [
            len(matching_answers(question, ids[self.start :])) == 1
            for question, ids in zip(self.questions, input_ids.tolist(), strict=True)
        ]
        return torch.tensor(decided, device=input_ids.device)


class TextWritten(StoppingCriteria):
    """Ends a row as soon as its answer contains a text.

    `StopStringCriteria` of transformers matches over the whole vocabulary and looks into the prompt as well.

    Args:
        tokenizer: Turns the answer's tokens into text.
        text: The text that ends an answer.
        start: The column at which answers begin.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text: str, start: int):
        self.tokenizer, self.text, self.start = tokenizer, text, start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        """(B,) bool: which rows contain the text."""
        answers = [self.tokenizer.decode(ids) for ids in input_ids[:, self.start :].tolist()]
        return torch.tensor([self.text in answer for answer in answers], device=input_ids.device)


def matching_answers(question: Question, generated: Sequence[int]) -> list[int]:
    """Indices of the answers that agree longest with `generated`, read from the left.

    Whatever follows the last token that any answer agrees with (padding) does not count.
    """
    matching = list(range(len(question.answer_ids)))
    for position, token in enumerate(generated):
        going_on = [index for index in matching if question.answer_ids[index][position : position + 1] == (token,)]
        if not going_on:
            break
        matching = going_on
    return matching


def greedy_config(max_new_tokens: int, end_ids: Sequence[int], pad_id: int) -> GenerationConfig:
    """Settings of `generate` for the likeliest token every time; a checkpoint's own penalties and sampling stay out.

    Args:
        max_new_tokens: The most tokens that are written.
        end_ids: Tokens that end a text; with none of them exactly `max_new_tokens` are written.
        pad_id: What stands behind an end.
    """
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=list(end_ids) or None,
        pad_token_id=pad_id,
    )


class GreedyDecoder:
    """Generates the most likely continuation of each question, token by token.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        constraint: One of `CONSTRAINTS`, or None for a free answer.
        stop: The text that ends a free answer, or None where only `max_new_tokens` does.
        max_new_tokens: The most tokens of an answer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        constraint: str | None,
        stop: str | None,
        max_new_tokens: int,
    ):
        self.model: Any = model  # which has `generate`
        self.tokenizer = tokenizer
        self.constraint, self.stop = constraint, stop
        self.end_ids = _end_ids(model, tokenizer)
        pad_id = tokenizer.pad_token_id
        fallback = (self.end_ids or [0])[0]
        self.config = greedy_config(max_new_tokens, self.end_ids, fallback if pad_id is None else pad_id)

    def plain(self, questions: Sequence[Question]) -> list[list[int]]:
        """Answers one question after the other, each with its whole prompt.

        Args:
            questions: The questions.

        Returns:
            The tokens of each answer, up to an end token.
        """
        answers = []
        for question in questions:
            input_ids, attention_mask = pad([question.prompt_ids], "left", self.model.device)
            answers += self._generate([question], input_ids, attention_mask)
        return answers

    def cached(self, questions: Sequence[Question], prefix: SharedPrefix, batch_size: int) -> list[list[int]]:
        """Answers the questions in batches, on top of the cache of what their prompts share.

        Args:
            questions: The questions.
            prefix: Holds the cache.
            batch_size: The most rows in one batch.

        Returns:
            The tokens of each answer, up to an end token.
        """
        length = prefix.move_to([question.prompt_ids for question in questions])
        suffixes = [question.prompt_ids[length:] for question in questions]
        answers: dict[int, list[int]] = {}
        for rows in batches([len(suffix) for suffix in suffixes], batch_size, prefix.allows_padding):
            input_ids, suffix_mask = pad([suffixes[row] for row in rows], "left", self.model.device)
            # generate takes the new tokens alone, but a mask over cache and new tokens.
            mask = torch.cat([suffix_mask.new_ones(len(rows), length), suffix_mask], dim=1)
            batch = [questions[row] for row in rows]
            answers.update(zip(rows, self._generate(batch, input_ids, mask, prefix.rows(len(rows))), strict=True))
        return [answers[row] for row in range(len(questions))]

    @torch.inference_mode()
    def _generate(
        self,
        questions: Sequence[Question],
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        cache: Cache | None = None,
    ) -> list[list[int]]:
        start = input_ids.shape[1]
        processors, criteria = LogitsProcessorList(), StoppingCriteriaList()
        if self.constraint is None and self.stop is not None:
            criteria.append(TextWritten(self.tokenizer, self.stop, start))
        if self.constraint is not None:
            processors.append(CONSTRAINTS[self.constraint](questions, start, self.tokenizer.eos_token_id))
        if self.constraint == "trie":
            criteria.append(AnswerDecided(questions, start))
        sequences = self.model.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            **{CACHE: cache},
            generation_config=self.config,
            logits_processor=processors,
            stopping_criteria=criteria,
        )
        return [self._until_end(ids) for ids in sequences[:, start:].tolist()]

    def _until_end(self, ids: list[int]) -> list[int]:
        ends = [position for position, token in enumerate(ids) if token in self.end_ids]
        return ids[: ends[0]] if ends else ids


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a text: the tokenizer's, and the model's own (one, several or none)."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    return list(dict.fromkeys(token for token in [tokenizer.eos_token_id, *own] if token is not None))
