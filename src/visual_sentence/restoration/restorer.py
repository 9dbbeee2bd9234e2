"""Restoration in context: a frozen language model reads examples and a damaged map, and writes the map anew.

Source: Zhu, Wei, Lu 2024 (https://arxiv.org/abs/2403.07874), figure 4 and section 4.3, after SPAE
(https://arxiv.org/abs/2306.17842). Knows maps of token ids and a language model, no images.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch
from transformers import LogitsProcessorList

from ..completion.decoding import greedy_config
from ..completion.prefix_cache import SharedPrefix, can_share_cache, last_logits
from ..completion.questions import batches
from ..errors import UserError
from ..language import LanguageModel
from .examples import Examples
from .local_tokens import LocalTokensOnly, ids_without_meaning
from .packing import can_pack, write_packed
from .prompts import BEST_VARIANT, CONDITION, STEP, Pair, PromptWriter
from .tasks import HOLE_TASKS, steps_of

MAX_BATCH_TOKENS = 4096
# A row of packed prompts holds this share of them, since attention over it grows with the square of its length.
PACK_SHARE = 8


class InContextRestorer:
    """Restores maps of local tokens by a frozen language model.

    Args:
        language_model: Model and tokenizer; local token i is its token id i.
        codebook_size: K, entries of the local codebook; by default as many as the tokenizer has.
        variant: How prompts are written, one of `VARIANTS`.
        condition: n, tokens before a step that are read.
        step: m, tokens that are predicted at a time.
        max_batch_tokens: The most tokens in one forward pass, rows x length with what is cached; an eighth of it where
            prompts are packed into one row. On a CPU more are not faster; on an accelerator they are, and take memory.

    Raises:
        UserError: If an option makes no sense.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        codebook_size: int | None = None,
        *,
        variant: str = BEST_VARIANT,
        condition: int = CONDITION,
        step: int = STEP,
        max_batch_tokens: int = MAX_BATCH_TOKENS,
    ):
        self.model, self.name = language_model.model.eval(), language_model.reference
        tokenizer = language_model.tokenizer
        size = codebook_size or max(tokenizer.get_vocab().values()) + 1
        self.writer = PromptWriter(tokenizer, variant, condition, step)
        self.max_batch_tokens = max_batch_tokens
        self._only_local = LocalTokensOnly(size, ids_without_meaning(tokenizer))
        self._prefix = SharedPrefix(self.model) if can_share_cache(self.model) else None
        self._pad_id = tokenizer.pad_token_id or 0

    @property
    def vocabulary(self) -> torch.Tensor:
        """[V] int64, the ids that may be written: local tokens without special ones."""
        return self._only_local.allowed_ids

    def restore(self, task: str, degraded: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Restores maps: what does not depend on one another in one batch, behind a cache of what prompts share.

        Args:
            task: One of `TASKS`.
            degraded: [B, h, w] int64, maps of the degraded pictures; what stands in a hole is not looked at.
            examples: What stands before each query.

        Returns:
            [B, h, w] int64 on the CPU: the task's positions written anew, the others as they were. The same tokens as
            `restore_plain` in float32; in 16 bits near ties may fall otherwise.

        Raises:
            UserError: If there is no such task, or a prompt does not fit the language model's context.
        """
        return self._restore(task, degraded, examples, self._write)

    def restore_plain(self, task: str, degraded: torch.Tensor, examples: Examples) -> torch.Tensor:
        """Restores maps as published: one call of `generate` with the whole prompt for every step of every image.

        The slow way, and the definition of what `restore` computes.

        Args:
            task: As for `restore`.
            degraded: As for `restore`.
            examples: As for `restore`.
        """

        def write(shared: tuple[int, ...], rests: list[tuple[int, ...]], counts: list[int]) -> list[list[int]]:
            prompts = [torch.tensor([[*shared, *rest]]) for rest in rests]
            return [self._generate(ids, count)[0] for ids, count in zip(prompts, counts, strict=True)]

        return self._restore(task, degraded, examples, write)

    def _restore(self, task: str, degraded: torch.Tensor, examples: Examples, write) -> torch.Tensor:
        height, width = degraded.shape[1:]
        steps = steps_of(task, height, width, self.writer.step)
        # What is read of other tasks never changes, so that all their steps are one round.
        rounds = [[step] for step in steps] if task in HOLE_TASKS else [steps]
        shared = self.writer.shared(examples.shared)
        maps = degraded.cpu().flatten(1).tolist()
        restored = [list(tokens) for tokens in maps]
        for steps_of_round in rounds:
            queries = [(image, step) for step in steps_of_round for image in range(len(maps))]
            read_from = restored if task in HOLE_TASKS else maps
            rests = []
            for image, step in queries:
                read = self.writer.read_positions(task, step)
                source = [read_from[image][place] for place in read]
                rests.append(self.writer.rest(examples.of(image, read, step), source))
            counts = [len(step) for _, step in queries]
            self._check_context(len(shared) + max(map(len, rests), default=0) + max(counts, default=0), task, examples)
            for (image, step), ids in zip(queries, write(shared, rests, counts), strict=True):
                for place, token in zip(step, ids, strict=True):
                    restored[image][place] = token
        return torch.tensor(restored, dtype=torch.int64).view(degraded.shape)

    def _write(
        self, shared: tuple[int, ...], rests: Sequence[tuple[int, ...]], counts: Sequence[int]
    ) -> list[list[int]]:
        """What the model writes behind each prompt: `counts` local tokens; equal prompts are asked once."""
        asked = list(dict.fromkeys(zip(rests, counts, strict=True)))
        written = {}
        for batch in self._batches(shared, asked):
            suffixes, count = [rest for rest, _ in batch], batch[0][1]
            if self._prefix is None:
                prompts = torch.tensor([[*shared, *suffix] for suffix in suffixes])
                ids = self._generate(prompts, count)
            else:
                ids = self._write_behind(shared, suffixes, count)
            written.update(zip(batch, ids, strict=True))
        return [written[query] for query in zip(rests, counts, strict=True)]

    def _batches(
        self, shared: tuple[int, ...], asked: Sequence[tuple[tuple[int, ...], int]]
    ) -> Iterable[list[tuple[tuple[int, ...], int]]]:
        """Prompts with answers of one length, as many as a forward pass may hold; of one length too, unless packed."""
        for count in sorted({own for _, own in asked}):
            group = [query for query in asked if query[1] == count]
            lengths = [len(rest) for rest, _ in group]
            packed = self._packs(shared, lengths)
            cost = PACK_SHARE * max(lengths) if packed else len(shared) + max(lengths) + count
            for places in batches(lengths, max(1, self.max_batch_tokens // cost), mixed_lengths=packed):
                yield [group[place] for place in places]

    def _packs(self, shared: tuple[int, ...], lengths: Sequence[int]) -> bool:
        """Whether prompts go side by side into one row: not where they are long, for each looks past all others."""
        return self._can_pack and max(lengths) <= len(shared)

    @cached_property
    def _can_pack(self) -> bool:
        return self._prefix is not None and can_pack(self._prefix)

    @torch.inference_mode()
    def _write_behind(
        self, shared: tuple[int, ...], suffixes: Sequence[tuple[int, ...]], count: int
    ) -> list[list[int]]:
        """Greedy local tokens behind prompts whose beginning is cached."""
        packed = self._packs(shared, [len(suffix) for suffix in suffixes])
        # One token behind the prefix, whichever it is, keeps all of the prefix in the cache.
        prefix = self._prefix
        assert prefix is not None  # whoever asks has seen that the model can share a cache
        prefix.move_to([(*shared, 0)])
        if packed:
            return write_packed(prefix, suffixes, count, self._only_local)
        cache = prefix.rows(len(suffixes))
        input_ids = torch.tensor(suffixes, device=self.model.device)
        written = []
        for _ in range(count):
            logits = last_logits(self.model, input_ids=input_ids, cache=cache)[:, -1].float()
            input_ids = self._only_local(input_ids, logits).argmax(-1, keepdim=True)
            written.append(input_ids)
        return torch.cat(written, dim=1).tolist()

    @torch.inference_mode()
    def _generate(self, input_ids: torch.Tensor, count: int) -> list[list[int]]:
        """`count` greedy local tokens behind each of B whole prompts of one length, [B, T]."""
        input_ids = input_ids.to(self.model.device)
        model: Any = self.model  # which has `generate`
        sequences = model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            generation_config=greedy_config(count, (), self._pad_id),
            logits_processor=LogitsProcessorList([self._only_local]),
        )
        return sequences[:, input_ids.shape[1] :].tolist()

    def _check_context(self, needed: int, task: str, examples: Examples) -> None:
        """Refuses prompts that are longer than the language model's context."""
        limit = getattr(self.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        if limit is not None and needed > limit:
            raise UserError(self._too_long(needed, limit, task, examples))

    def _too_long(self, needed: int, limit: int, task: str, examples: Examples) -> str:
        writer = self.writer
        pairs = examples.shared or examples.of(0, range(0), ())
        count = len(pairs)
        reads_before = task in HOLE_TASKS or writer.wording.reads_before
        read = (writer.condition if reads_before else 0) + (0 if task in HOLE_TASKS else writer.step)
        example = len(writer.example(Pair((0,) * read, (0,) * writer.step)))
        fewer = (limit - (needed - count * example)) // example
        advice = []
        if fewer >= 1:
            advice.append(f"take at most {fewer} examples")
        shorter = writer.condition - -(-(needed - limit) // (count + 1))
        if reads_before and shorter >= 1:
            advice.append(f"n of at most {shorter}")
        advice.append("a language model with a longer context")
        return (
            f"A prompt of {count} examples with n = {writer.condition} and m = {writer.step} takes {needed} tokens "
            f"with its answer, but {self.name} reads {limit}: {' or '.join(advice)}."
        )
