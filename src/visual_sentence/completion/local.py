"""A causal language model in this process, asked in text: batches on top of a shared prefix cache.

Knows texts, a tokenizer and a model of transformers.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import UserError
from ..language import LanguageModel
from .base import CompletionModel, PromptTooLongError, check_request, up_to
from .decoding import GreedyDecoder, matching_answers
from .prefix_cache import SharedPrefix, can_share_cache
from .questions import Question, encode_question, text_behind
from .scoring import cached_log_likelihoods, plain_log_likelihoods


class LocalCompletions(CompletionModel):
    """Completions of a causal language model of transformers.

    The text that all prompts of a call share is run once and kept for the next call. Models whose cache cannot be
    repeated (see `can_share_cache`) are asked with the whole prompt each time, with the same results.

    Args:
        language_model: Model and tokenizer. The model is put into evaluation mode, its weights are not changed.
        batch_size: The most rows in one forward pass.
        use_cache: False runs every prompt and answer alone with the whole prompt: slow, and good for comparison.

    Raises:
        UserError: If `batch_size` is below 1.
    """

    def __init__(self, language_model: LanguageModel, batch_size: int = 16, use_cache: bool = True):
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, got {batch_size}.")
        config = language_model.model.config.get_text_config(decoder=True)
        super().__init__(
            language_model.reference,
            context_length=getattr(config, "max_position_embeddings", None),
            dtype=str(language_model.model.dtype).removeprefix("torch."),
        )
        self.language_model, self.batch_size, self.use_cache = language_model, batch_size, use_cache
        self.model.eval()  # the same answer every time, without dropout
        self._prefix = SharedPrefix(self.model) if use_cache and can_share_cache(self.model) else None

    @property
    def model(self) -> PreTrainedModel:
        """The language model."""
        return self.language_model.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return self.language_model.tokenizer

    def complete(self, prompts: Sequence[str], max_new_tokens: int, stop: str | None = None) -> list[str]:
        """Writes the most likely continuation of each prompt, see `CompletionModel.complete`."""
        check_request(max_new_tokens, stop)
        questions = [encode_question(self.tokenizer, prompt) for prompt in prompts]
        generated = self._generate(questions, None, stop, max_new_tokens)
        return [up_to(self._text(question, ids), stop) for question, ids in zip(questions, generated, strict=True)]

    def complete_with_one_of(
        self, prompts: Sequence[str], answers: Sequence[str], constraint: str
    ) -> list[tuple[int, str]]:
        """Writes the most likely continuation of each prompt among those that a constraint allows.

        Needs the logits of every step, so only a model in this process can do it.

        Args:
            prompts: The texts to go on with.
            answers: The texts to choose from, leading space included.
            constraint: One of `CONSTRAINTS`: "trie" writes one of the answers, or what begins several; with
                "position-mask" tokens of different answers can mix.

        Returns:
            For each prompt the index of the answer that agrees longest with what was written, the shortest of several,
            and the written text, blanks kept.

        Raises:
            PromptTooLongError: If a prompt and an answer are longer than the model's context.
        """
        questions = [encode_question(self.tokenizer, prompt, answers) for prompt in prompts]
        longest = max((len(ids) for question in questions for ids in question.answer_ids), default=0)
        generated = self._generate(questions, constraint, None, longest + 1)  # one more for the end token
        written = []
        for question, ids in zip(questions, generated, strict=True):
            # The shortest: an answer that was ended here is the beginning of the others that match.
            index = min(matching_answers(question, ids), key=lambda index: len(question.answer_ids[index]))
            written.append((index, self._text(question, ids).removeprefix(question.overlap)))
        return written

    def log_likelihoods(self, prompts: Sequence[str], answers: Sequence[str]) -> torch.Tensor:
        """Measures how likely each answer is behind each prompt, see `CompletionModel.log_likelihoods`."""
        questions = [encode_question(self.tokenizer, prompt, answers) for prompt in prompts]
        if not questions or not answers:
            return torch.zeros(len(prompts), len(answers))
        self._check_context(questions, 0)
        if self._prefix is None:
            return plain_log_likelihoods(questions, self.model)
        return cached_log_likelihoods(questions, self._prefix, self.batch_size)

    def require_log_likelihoods(self) -> None:
        """Refuses nothing: a model in this process has its logits."""

    def count_tokens(self, text: str) -> int:
        """How many positions a text takes as a prompt, special tokens included."""
        return len(encode_question(self.tokenizer, text).prompt_ids)

    def another(self) -> "LocalCompletions":
        """The same model with a prefix cache of its own, for prompts that begin otherwise."""
        return LocalCompletions(self.language_model, self.batch_size, self.use_cache)

    def _generate(
        self, questions: Sequence[Question], constraint: str | None, stop: str | None, max_new_tokens: int
    ) -> list[list[int]]:
        """The tokens of each answer, up to an end token."""
        if not questions:
            return []
        self._check_context(questions, max_new_tokens)
        decoder = GreedyDecoder(self.model, self.tokenizer, constraint, stop, max_new_tokens)
        if self._prefix is None:
            return decoder.plain(questions)
        return decoder.cached(questions, self._prefix, self.batch_size)

    def _text(self, question: Question, ids: Sequence[int]) -> str:
        """The text of an answer's tokens."""
        return text_behind(self.tokenizer, question.prompt_ids, ids)

    def _check_context(self, questions: Sequence[Question], new_tokens: int) -> None:
        """Refuses prompts that are longer than the model's context."""
        needed = max(
            len(question.prompt_ids) + max([new_tokens, *map(len, question.answer_ids)]) for question in questions
        )
        if self.context_length is not None and needed > self.context_length:
            raise PromptTooLongError(needed, self.context_length)
