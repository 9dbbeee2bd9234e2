"""Few-shot classification with a frozen language model: prompts, scores and decoding tied together.

Sees words and labels only, and never changes the model.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch

from ..completion import CompletionModel, LocalCompletions, NoLogLikelihoodsError, PromptTooLongError
from ..completion.decoding import CONSTRAINTS
from ..errors import UserError
from .prompts import ClassificationPrompt, Example

LIKELIHOOD_MODES = ("domain-calibrated", "calibrated", "likelihood")
SCORING_MODES = (*LIKELIHOOD_MODES, "trie", "exact-match", "prefix-match", "position-mask")
BEST_SCORING = SCORING_MODES[0]
# Bags of random words that "domain-calibrated" asks about, and the seed that draws them.
CONTENT_FREE_BAGS = 4
BAG_SEED = 0
DEFAULT_PROMPT = ClassificationPrompt()
# The published code generates 16 tokens; else a free answer may be this much longer than the longest
# label.
PUBLISHED_NEW_TOKENS = 16
SPARE_NEW_TOKENS = 4


@dataclass(frozen=True)
class Answer:
    """What the language model answered to one query.

    Args:
        label: One of the class names, or None where a generated text was none of them.
        scores: A value per class name that sums to 1. With `LIKELIHOOD_MODES` the softmax over the (calibrated)
            log-likelihoods; where text is generated 1.0 for the answer and 0.0 for the others,
            and empty where the text was no class name.
        text: The generated text up to the prompt style's stop, or the label where nothing was generated.
    """

    label: str | None
    scores: dict[str, float]
    text: str


class InContextClassifier:
    """Classifies words by showing a frozen language model a few solved examples.

    Ways to score:

    - "domain-calibrated": the label with the highest log-likelihood, minus its mean log-likelihood after queries
      of words drawn at random from all examples (Fei et al., arXiv:2305.19148): what the model answers to words
      of this domain that belong to no class. Asked with classes and examples in the given order and in reverse,
      and averaged, since small models lean towards what they read last (Lu et al., arXiv:2104.08786). Without
      examples the query is that of "calibrated".
    - "calibrated": the label with the highest log-likelihood, minus its log-likelihood after a query without
      content (Zhao et al., arXiv:2102.09690, as a difference of log-probabilities).
    - "likelihood": the label with the highest log-likelihood, summed over its tokens.
    - "trie": greedy generation in which only labels can be written; always answers with one.
    - "exact-match": free greedy generation, whose text must be a label (V2L Tokenizer paper,
      arXiv:2403.07874).
    - "prefix-match": free greedy generation, whose text must begin with a label; the longest such label
      counts (the criterion of the paper's published code).
    - "position-mask": greedy generation in which the j-th token must be the j-th token of any label, then as
      "prefix-match" (the decoding of the published code).

    A served model can do all but "trie" and "position-mask", which need the logits of every step; the modes of
    `LIKELIHOOD_MODES` need an endpoint that gives log-probabilities of a given text.

    Args:
        model: The language model, in this process or served.
        prompt: How the question is written.
        scoring: One of `SCORING_MODES`.

    Raises:
        UserError: If `scoring` is not allowed, or not with this model.
    """

    def __init__(
        self,
        model: CompletionModel,
        prompt: ClassificationPrompt = DEFAULT_PROMPT,
        scoring: str = BEST_SCORING,
    ):
        if scoring not in SCORING_MODES:
            raise UserError(f"There is no scoring {scoring!r}: use one of {', '.join(SCORING_MODES)}.")
        if scoring in CONSTRAINTS and not isinstance(model, LocalCompletions):
            raise UserError(
                f"Scoring {scoring!r} needs the logits of every step, which {model.name} keeps to itself: "
                "use 'exact-match' or 'prefix-match', or load the model here."
            )
        if scoring in LIKELIHOOD_MODES:
            try:
                model.require_log_likelihoods()
            except NoLogLikelihoodsError as error:
                raise NoLogLikelihoodsError(
                    f"{error} Scoring {scoring!r} needs them, 'exact-match' and 'prefix-match' do not."
                ) from error
        self.model, self.prompt, self.scoring = model, prompt, scoring
        # The reverse order has another beginning, whose cache would displace the first one's.
        self._reverse_model = model.another()

    def classify(
        self, support: Sequence[Example], queries: Sequence[Sequence[str]], class_names: Sequence[str]
    ) -> list[Answer]:
        """Answers each query with a class name.

        Args:
            support: Solved pairs, in the order in which the model sees them; may be empty.
            queries: The words of each image in question.
            class_names: The labels to choose from, at least two.

        Returns:
            One answer per query, in their order.

        Raises:
            UserError: If labels and class names do not fit, words are missing, or the prompt is longer than
                the model's context.
        """
        self._check(support, queries, class_names)
        if not queries:
            return []
        try:
            if self.scoring in LIKELIHOOD_MODES:
                return self._most_likely(queries, support, class_names)
            prompts = [self.prompt.render(support, words, class_names) for words in queries]
            return self._generated(prompts, class_names)
        except PromptTooLongError as error:
            raise self._too_long(error, support, class_names) from error

    def _content_free_prompts(
        self, support: Sequence[Example], num_words: int, class_names: Sequence[str]
    ) -> list[str]:
        """The prompts whose answers show the model's bias; none for the plain likelihood."""
        if self.scoring == "likelihood":
            return []
        if self.scoring == "calibrated" or not support:
            return [self.prompt.render_content_free(support, class_names)]
        pool = [word for words, _ in support for word in words]
        draw = Random(BAG_SEED)
        bags = [draw.sample(pool, min(num_words, len(pool))) for _ in range(CONTENT_FREE_BAGS)]
        return [self.prompt.render(support, bag, class_names) for bag in bags]

    def _most_likely(
        self, queries: Sequence[Sequence[str]], support: Sequence[Example], class_names: Sequence[str]
    ) -> list[Answer]:
        """The label with the highest (calibrated) log-likelihood, averaged over the orders of the scoring mode."""
        log_likelihoods = self._log_likelihoods(self.model, queries, support, class_names)
        if self.scoring == "domain-calibrated":
            reverse = self._log_likelihoods(self._reverse_model, queries, support[::-1], class_names[::-1])
            log_likelihoods = (log_likelihoods + reverse.flip(1)) / 2
        # Double precision, so that the scores sum to 1 to the last digit that is ever shown.
        probabilities = log_likelihoods.double().softmax(-1)
        best = [class_names[index] for index in probabilities.argmax(-1).tolist()]
        return [
            Answer(label, dict(zip(class_names, row, strict=True)), label)
            for label, row in zip(best, probabilities.tolist(), strict=True)
        ]

    def _log_likelihoods(
        self,
        model: CompletionModel,
        queries: Sequence[Sequence[str]],
        support: Sequence[Example],
        class_names: Sequence[str],
    ) -> torch.Tensor:
        """(Calibrated) log-likelihoods of L class names for Q queries, in one order: [Q, L] float32."""
        prompts = [self.prompt.render(support, words, class_names) for words in queries]
        content_free = self._content_free_prompts(support, len(queries[0]), class_names)
        answers = [self.prompt.answer(name) for name in class_names]
        log_likelihoods = model.log_likelihoods([*prompts, *content_free], answers)
        bias = log_likelihoods[len(prompts) :].mean(0) if content_free else 0.0
        return log_likelihoods[: len(prompts)] - bias

    def _generated(self, prompts: Sequence[str], class_names: Sequence[str]) -> list[Answer]:
        """The label that each generated text says, by the rule of the scoring mode."""
        # In a trie the ending tells a label from a longer one that begins with it.
        ending = "" if self.scoring == "position-mask" else self.prompt.ending
        answers = [self.prompt.answer(name) + ending for name in class_names]
        if self.scoring not in CONSTRAINTS:
            stop = None if any(self.prompt.stop in name for name in class_names) else self.prompt.stop
            written = self.model.complete(prompts, self._max_new_tokens(answers), stop)
            return [self._read(text, class_names) for text in written]
        assert isinstance(self.model, LocalCompletions)  # as that scoring wants
        chosen = self.model.complete_with_one_of(prompts, answers, self.scoring)
        if self.scoring == "position-mask":
            return [self._read(text, class_names) for _, text in chosen]
        labels = [class_names[index] for index, _ in chosen]
        return [Answer(label, _all_or_nothing(label, class_names), label) for label in labels]

    def _max_new_tokens(self, answers: Sequence[str]) -> int:
        # No token is shorter than a byte: for a tokenizer that is not known here.
        longest = max(self.model.count_tokens(answer) or len(answer.encode()) for answer in answers)
        least = PUBLISHED_NEW_TOKENS if self.prompt.style == "published-code" else 0
        return max(longest + SPARE_NEW_TOKENS, least)

    def _read(self, written: str, class_names: Sequence[str]) -> Answer:
        """Turns generated text into a class name, by the rule of the scoring mode."""
        written = written.lstrip()
        label = self._label_of(written, class_names)
        text = self._up_to_stop(written, "" if label is None else self.prompt.answer(label).strip())
        return Answer(label, {} if label is None else _all_or_nothing(label, class_names), text)

    def _label_of(self, written: str, class_names: Sequence[str]) -> str | None:
        """The longest class name that the text is ("exact-match") or begins with (the other modes)."""
        for name in sorted(class_names, key=len, reverse=True):
            label = self.prompt.answer(name).strip()
            exact = self._up_to_stop(written, label) == label
            if exact or (self.scoring != "exact-match" and written.startswith(label)):
                return name
        return None

    def _up_to_stop(self, written: str, label: str) -> str:
        # The stop may be part of a label, as in "St. Bernard", and then does not end the answer.
        return (written[: len(label)] + written[len(label) :].split(self.prompt.stop)[0]).strip()

    def _check(self, support: Sequence[Example], queries: Sequence[Sequence[str]], class_names: Sequence[str]) -> None:
        """Refuses what cannot be asked, in one line."""
        if len(class_names) < 2:
            raise UserError(f"Classification needs at least two class names, got {list(class_names)}.")
        if not all(name.strip() for name in class_names):
            raise UserError(f"Class names must not be empty, got {list(class_names)}.")
        written = Counter(self.prompt.answer(name).strip() for name in class_names)
        twice = [name for name, count in written.items() if count > 1]
        if twice:
            raise UserError(f"Class names must differ, {twice[0]!r} is there {written[twice[0]]} times.")
        for position, (words, label) in enumerate(support, start=1):
            if label not in class_names:
                raise UserError(
                    f"Example {position} has the label {label!r}, which is not a class name: "
                    f"use one of {', '.join(class_names)}."
                )
            _check_words(words, f"Example {position}")
        for position, words in enumerate(queries, start=1):
            _check_words(words, f"Query {position}")

    def _too_long(
        self, error: PromptTooLongError, support: Sequence[Example], class_names: Sequence[str]
    ) -> PromptTooLongError:
        """The refusal of a prompt beyond the model's context, saying how many examples would fit."""
        fixed = self.model.count_tokens(self.prompt.render_content_free((), class_names)) or 0
        if self.scoring not in LIKELIHOOD_MODES:
            answers = [self.prompt.answer(name) + self.prompt.ending for name in class_names]
            fixed += self._max_new_tokens(answers)
        shots = max(Counter(label for _, label in support).values(), default=0)
        fitting = (error.limit - fixed) * shots // (error.needed - fixed)
        advice = f"use {fitting} shots instead of {shots}, or" if 0 < fitting < shots else "use"
        advice += " fewer words per image, fewer repetitions or a model with a longer context"
        return PromptTooLongError(error.needed, error.limit, advice)


def _all_or_nothing(label: str, class_names: Sequence[str]) -> dict[str, float]:
    """The scores of an answer that was written and not weighed."""
    return {name: float(name == label) for name in class_names}


def _check_words(words: Sequence[str], whose: str) -> None:
    if isinstance(words, str):
        raise UserError(f"{whose} must be a sequence of words, got the text {words!r}: split it into words.")
    if not words or not all(word.strip() for word in words):
        raise UserError(f"{whose} must have at least one word and no empty ones, got {list(words)}.")
