"""How sentences go on: from a language model's logits to whole images. Level 1."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from transformers import Cache, GenerationMixin, LogitsProcessor, LogitsProcessorList, PreTrainedModel
from transformers.utils import ModelOutput

from .branching_cache import branch
from .cache_names import CACHE, cache_of
from .image_token_converter import ImageTokenConverter

# Default of fields that are always given: an output's fields need one.
GIVEN: Any = None


@dataclass
class SimLVMCompletion(ModelOutput):
    """How B sentences go on.

    Args:
        image_tokens: [B, n, h, w] int64 in [0, K).
        log_likelihood: [B] float32, in nats, of the generated places among image tokens, without temperature.
        candidates: [B, c, n, h, w], all candidates, the likeliest first; None where there was one.
        expected_codes: [B, c, n, D, h, w] float32, of all candidates in the same order: the mean code of each place
            over all tokens that could have been chosen there; None where they were not asked for.
    """

    image_tokens: torch.Tensor = GIVEN
    log_likelihood: torch.Tensor = GIVEN
    candidates: torch.Tensor | None = None
    expected_codes: torch.Tensor | None = None


@dataclass
class SentencePrefix:
    """The beginning that several sentences share, read once.

    Args:
        input_ids: [1, P] int64.
        cache: The language model's cache of them.
    """

    input_ids: torch.Tensor
    cache: Cache


class ImageTokensOnly(LogitsProcessor):
    """Leaves image tokens only, and of places that are known only the known token.

    Args:
        converter: Knows the image tokens' ids.
        prompt_length: Tokens in front of the first generated one, as `generate` counts them.
        known: [B, N] int64, ids of the N generated places, -1 where free; None where all are.
    """

    def __init__(self, converter: ImageTokenConverter, prompt_length: int, known: torch.Tensor | None = None):
        self.first, self.last = converter.offset, converter.offset + converter.codebook_size
        self.prompt_length, self.known = prompt_length, known

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [B, V], minus infinity for what may not come."""
        allowed = torch.full_like(scores, -torch.inf)
        allowed[:, self.first : self.last] = scores[:, self.first : self.last]
        if self.known is None:
            return allowed
        known = self.known[:, input_ids.shape[1] - self.prompt_length].to(scores.device)
        forced = torch.full_like(scores, -torch.inf)
        forced.scatter_(1, known.clamp(min=0)[:, None], 0.0)
        return torch.where((known >= 0)[:, None], forced, allowed)


class LikelihoodRecorder(LogitsProcessor):
    """Adds up the natural log-likelihood of what is chosen, among image tokens, as the model gives it.

    It stands in front of everything that changes the scores, so temperature and the like do not enter. Known places
    do not count.

    Args:
        converter: Knows the image tokens' ids.
        prompt_length: Tokens in front of the first generated one.
        known: As for `ImageTokensOnly`.
        codes: [K, D]; where they are given, `expected` is filled: for each place the mean code [B, D] over the tokens
            that may come, at a known place the known one's.
    """

    def __init__(
        self,
        converter: ImageTokenConverter,
        prompt_length: int,
        known: torch.Tensor | None = None,
        codes: torch.Tensor | None = None,
    ):
        self.converter, self.prompt_length, self.known, self.codes = converter, prompt_length, known, codes
        self.total = torch.zeros(())
        self.expected: list[torch.Tensor] = []
        self._last: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Leaves the scores [B, V] as they are."""
        self.count(input_ids)
        first = self.converter.offset
        self._last = scores[:, first : first + self.converter.codebook_size].float().log_softmax(-1)
        if self.codes is not None:
            self.expected.append(self._expectation(self._last, self.codes, input_ids.shape[1] - self.prompt_length))
        return scores

    def _expectation(self, last: torch.Tensor, codes: torch.Tensor, place: int) -> torch.Tensor:
        """[B, D], of the place whose log-likelihoods [B, K] were found last."""
        mean = last.exp() @ codes
        if self.known is None:
            return mean
        known = self.known[:, place].to(mean.device)
        tokens = self.converter.to_tokens(torch.where(known < 0, self.converter.offset, known))
        return torch.where((known < 0)[:, None], mean, codes[tokens])

    def count(self, input_ids: torch.Tensor) -> None:
        """Takes the last id of each row [B, L] as chosen; called once more behind the last step."""
        if self._last is None:
            self.total = torch.zeros(input_ids.shape[0], device=input_ids.device)
            return
        chosen = self.converter.to_tokens(input_ids[:, -1:]).to(self._last.device)
        gained = self._last.gather(1, chosen)[:, 0]
        if self.known is not None:
            place = input_ids.shape[1] - self.prompt_length - 1
            gained = gained * (self.known[:, place] < 0).to(gained.device)
        self.total = self.total.to(gained.device) + gained


class SentenceGeneration(PreTrainedModel, GenerationMixin):
    """What a model of visual sentences does with `generate`; `SimLVMForVisualSentence` is one."""

    converter: ImageTokenConverter

    def fill(self, input_ids: torch.Tensor, pixel_values: torch.Tensor | None) -> torch.Tensor:
        """Ids with the pictures' tokens in their places."""
        raise NotImplementedError  # the model's own, which knows its image tokenizer

    def tokenize(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Image tokens of images."""
        raise NotImplementedError  # the model's own, as above

    def image_codes(self) -> torch.Tensor:
        """The code of every image token."""
        raise NotImplementedError  # the model's own, as above

    @torch.no_grad()
    def read(self, input_ids: torch.Tensor, pixel_values: torch.Tensor | None = None) -> SentencePrefix:
        """Reads a beginning that several sentences share.

        Args:
            input_ids: [1, P] int64; -1 where a token of `pixel_values` belongs.
            pixel_values: [N, C, S, S].
        """
        ids = self.fill(input_ids.to(self.device), pixel_values)
        return SentencePrefix(ids, cache_of(self(input_ids=ids, use_cache=True, logits_to_keep=1)))

    @torch.no_grad()
    def complete(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        num_images: int = 1,
        known_tokens: torch.Tensor | None = None,
        known_pixel_values: torch.Tensor | None = None,
        known_rows: torch.Tensor | None = None,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        num_candidates: int = 1,
        seed: int | None = None,
        share_prefix: bool = True,
        prefix: SentencePrefix | None = None,
        expect_codes: bool = False,
    ) -> SimLVMCompletion:
        """Goes on with sentences by whole images.

        Args:
            input_ids: [B, L] int64, padded on the left; -1 where a token of `pixel_values` belongs.
            pixel_values: [N, C, S, S] in [-1, 1], the pictures of all rows in order.
            attention_mask: [B, L], 0 for padding.
            num_images: n, images to add.
            known_tokens: [B, n * T] int64, image tokens that are given, -1 where free.
            known_pixel_values: [B, C, S, S], pictures of which some rows of tokens are given, for the first of the
                images; with `known_rows`.
            known_rows: [B, h] bool, which.
            do_sample: Whether tokens are drawn; else the likeliest is taken.
            temperature: Divides the logits of a draw.
            top_k: Draw from this many likeliest tokens only; 0 for all.
            top_p: Draw from the likeliest tokens of this total probability only.
            num_candidates: c, completions per sentence of which the likeliest is kept; more than one needs `do_sample`.
            seed: Makes draws repeatable.
            share_prefix: Whether what all rows begin with is read once; the tokens are the same.
            prefix: Stands before every row, already read.
            expect_codes: Whether `expected_codes` are given, too.

        Raises:
            ValueError: If the sentence grows too long, or arguments contradict each other.
        """
        ids = self.fill(input_ids.to(self.device), pixel_values)
        mask = torch.ones_like(ids) if attention_mask is None else attention_mask.to(ids.device)
        self._check_request(ids, prefix, num_images, num_candidates, do_sample)
        if known_pixel_values is not None or known_rows is not None:
            known_tokens = self._known_rows(known_pixel_values, known_rows, num_images)
        known = self._known_ids(known_tokens, ids.shape[0], num_images * self.config.tokens_per_image)
        ids, mask, cache = self._with_prefix(ids, mask, prefix, share_prefix)
        if num_candidates > 1:
            ids, cache = self._with_candidates(ids, mask, cache, num_candidates)
            mask = mask.repeat_interleave(num_candidates, 0)
            known = None if known is None else known.repeat_interleave(num_candidates, 0)
        drawing = {"temperature": temperature, "top_k": top_k, "top_p": top_p} if do_sample else {}
        with torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            codes = self.image_codes() if expect_codes else None
            out, recorder = self._go_on(ids, mask, cache, known, num_images, codes, do_sample=do_sample, **drawing)
        return self._as_completion(out, recorder, num_images, num_candidates)

    def _go_on(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        cache: Cache | None,
        known: torch.Tensor | None,
        num_images: int,
        codes: torch.Tensor | None,
        **drawing,
    ) -> tuple[torch.Tensor, LikelihoodRecorder]:
        """Ids [B, n * T] of what follows, and who knows how likely it is."""
        added = num_images * self.config.tokens_per_image
        recorder = LikelihoodRecorder(self.converter, ids.shape[1], known, codes)
        steps = LogitsProcessorList([recorder, ImageTokensOnly(self.converter, ids.shape[1], known)])
        out = self.generate(
            input_ids=ids,
            attention_mask=mask,
            logits_processor=steps,
            max_new_tokens=added,
            pad_token_id=self.converter.specials.get("pad"),
            eos_token_id=None,
            use_cache=True,
            **{CACHE: cache},
            **drawing,
        )
        assert isinstance(out, torch.Tensor)  # a dictionary was not asked for
        recorder.count(out)
        return out[:, -added:], recorder

    def _check_request(
        self, ids: torch.Tensor, prefix: SentencePrefix | None, num_images: int, num_candidates: int, do_sample: bool
    ) -> None:
        size = self.config.tokens_per_image
        before = ids.shape[1] + (0 if prefix is None else prefix.input_ids.shape[1])
        if num_images < 1 or num_candidates < 1:
            raise ValueError(
                f"num_images and num_candidates must be at least 1, got {num_images} and {num_candidates}."
            )
        if before // size + num_images > self.config.max_images:
            raise ValueError(
                f"The sentence would have {before // size + num_images} images, this model reads "
                f"{self.config.max_images}: give fewer pairs or ask for fewer images."
            )
        if num_candidates > 1 and not do_sample:
            raise ValueError(
                "Without do_sample all candidates would be equal: pass do_sample=True, or num_candidates=1."
            )

    def _known_rows(
        self, pixel_values: torch.Tensor | None, rows: torch.Tensor | None, num_images: int
    ) -> torch.Tensor:
        if rows is None or pixel_values is None:
            given, other = ("known_rows", "known_pixel_values")[:: 1 if pixel_values is None else -1]
            raise ValueError(f"{given} says what is known only with {other}: pass both.")
        height, width = self.config.vq_config.grid_size
        tokens = self.tokenize(pixel_values).view(-1, height, width)
        tokens = tokens.masked_fill(~rows.to(tokens.device).bool()[:, :, None], -1).flatten(1)
        return F.pad(tokens, (0, (num_images - 1) * height * width), value=-1)

    def _known_ids(self, tokens: torch.Tensor | None, rows: int, added: int) -> torch.Tensor | None:
        if tokens is None:
            return None
        if tuple(tokens.shape) != (rows, added):
            raise ValueError(f"known_tokens must have shape ({rows}, {added}), got {tuple(tokens.shape)}.")
        tokens = tokens.to(self.device)
        return torch.where(tokens < 0, tokens, self.converter.to_ids(tokens.clamp(min=0)))

    def _with_prefix(
        self, ids: torch.Tensor, mask: torch.Tensor, prefix: SentencePrefix | None, share: bool
    ) -> tuple[torch.Tensor, torch.Tensor, Cache | None]:
        """What is still to be read, the mask of everything, and the cache of what is read."""
        rows = ids.shape[0]
        if prefix is None:
            length = common_length(ids, mask) if share and rows > 1 else 0
            if length == 0:
                return ids, mask, None
            prefix, ids = self.read(ids[:1, :length]), ids[:, length:]
        else:
            mask = torch.cat([mask.new_ones(rows, prefix.input_ids.shape[1]), mask], dim=1)
        return ids, mask, branch(prefix.cache, rows)

    def _with_candidates(
        self, ids: torch.Tensor, mask: torch.Tensor, cache: Cache | None, count: int
    ) -> tuple[torch.Tensor, Cache | None]:
        """The last id of each row, once for each candidate, and the cache of what stands before, read once for all."""
        if ids.shape[1] > 1:
            before = {"input_ids": ids[:, :-1], "attention_mask": mask[:, :-1]}
            cache = cache_of(self(**before, past_key_values=cache, use_cache=True, logits_to_keep=1))
        return ids[:, -1:].repeat_interleave(count, 0), None if cache is None else branch(cache, count)

    def _as_completion(
        self, ids: torch.Tensor, recorder: LikelihoodRecorder, num_images: int, num_candidates: int
    ) -> SimLVMCompletion:
        shape = (-1, num_candidates, num_images, *self.config.vq_config.grid_size)
        tokens = self.converter.to_tokens(ids).view(*shape)
        likelihood, order = recorder.total.view(-1, num_candidates).sort(dim=1, descending=True, stable=True)
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        tokens = tokens[rows, order]
        codes = None
        if recorder.expected:
            found = torch.stack(recorder.expected, dim=1)  # [B * c, n * T, D]
            codes = found.view(*shape, found.shape[-1]).movedim(-1, 3)[rows, order]
        return SimLVMCompletion(tokens[:, 0], likelihood[:, 0], tokens if num_candidates > 1 else None, codes)


def common_length(ids: torch.Tensor, mask: torch.Tensor) -> int:
    """Tokens with which all rows begin; one less where the rows are equal, as the last one has to be read anew."""
    if not bool(mask.all()):
        return 0
    differ = (ids != ids[:1]).any(0)
    length = int(differ.long().argmax()) if bool(differ.any()) else ids.shape[1]
    return min(length, ids.shape[1] - 1)


__all__ = ["ImageTokensOnly", "LikelihoodRecorder", "SentenceGeneration", "SentencePrefix", "SimLVMCompletion"]
