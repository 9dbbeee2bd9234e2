"""A SimLVM asked for the next picture: pairs that several queries share are read once.

Queries behind the same pairs are answered in batches behind the pairs' cache, all others in batches of equally many
pairs. The cache of the last pairs is kept, so that a further query behind them costs no reading either.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from ..errors import UserError
from ..language import choose_device
from ..modeling import SentencePrefix, SimLVMForVisualSentence, SimLVMProcessor
from ..modeling.image_processing_v2l import to_rgb
from ..modeling.processing_simlvm import as_picture
from .answers import IMAGE, AnswerReader, Completion, Reading, reading_of
from .generation import check_generation
from .loading import check_parts, load_parts

Pictures = tuple[Image.Image, Image.Image]


class SolvedPair(Protocol):
    """A pair as `visual_sentence.data` makes them."""

    @property
    def input(self) -> Image.Image:
        """The question."""

    @property
    def target(self) -> Image.Image:
        """Its answer."""


class Sentence(Protocol):
    """What is completed: a `VisualSentence` or a `Question`.

    A sentence may have `partial` and `known_rows`, as `Question` has.
    """

    @property
    def pairs(self) -> Sequence[SolvedPair] | Sequence[Pictures]:
        """What is shown before."""

    @property
    def query(self) -> Image.Image:
        """What is asked."""


@dataclass(frozen=True)
class Question:
    """Pairs and a query.

    Args:
        pairs: (input, target), each of one size; at least one.
        query: The picture that is to be answered.
        partial: An answer of which some rows of tokens are known already.
        known_rows: Which, from 0 at the top.
    """

    pairs: Sequence[SolvedPair] | Sequence[Pictures]
    query: Image.Image
    partial: Image.Image | None = None
    known_rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Asked:
    """A sentence in its checked form."""

    place: int
    key: str
    pairs: tuple[Pictures, ...]
    query: Image.Image
    partial: Image.Image | None
    known_rows: tuple[int, ...]

    @property
    def form(self) -> tuple[int, bool, tuple[int, ...]]:
        """What has to be equal within a batch."""
        return len(self.pairs), self.partial is not None, self.known_rows


class SentenceCompleter:
    """Completes visual sentences.

    Args:
        model: The model.
        processor: Its processor.
        name: What the model is called, for messages.

    Raises:
        UserError: If the two do not belong together.

    Example:
        >>> completer = SentenceCompleter.load("out/simlvm")
        >>> (answer,) = completer.complete([Question([(image, mask)], another)], output="auto")
        >>> answer.mask.mean()
    """

    def __init__(self, model: SimLVMForVisualSentence, processor: SimLVMProcessor, name: str | None = None):
        self.name = name or model.config.name_or_path or "this model"
        check_parts(model.config, processor, self.name)
        self.model = model.eval()
        self.processor = processor
        self._reader = AnswerReader(processor)
        self._kept: tuple[str, SentencePrefix] | None = None

    @classmethod
    def load(cls, reference: str | Path | None = None, device: str | None = None) -> "SentenceCompleter":
        """Loads a model with its processor.

        Args:
            reference: A folder or a Hub id; None or "default" for the model that ships with the package.
            device: Where to put it; the first accelerator by default, else the CPU.

        Raises:
            UserError: If there is no such model, it is of another kind, or its parts do not fit together.
        """
        device = choose_device(device)
        model, processor, name = load_parts(reference)
        placed: Any = model
        return cls(placed.to(device), processor, name)  # transformers' `to` is typed as a plain function

    @property
    def default_generation(self) -> dict[str, Any]:
        """Options of `complete` where none is given: the likeliest tokens, or the mean of the config's draws."""
        count = getattr(self.model.config, "mean_candidates", 1)
        temperature = getattr(self.model.config, "mean_temperature", 1.0)
        if count == 1:
            return {} if temperature else {"average": True}
        draws = {"do_sample": True, "num_candidates": count, "seed": 0, "average": True}
        return draws if temperature == 1 else {**draws, "temperature": temperature}

    def check_fits(self, **parts: Any) -> None:
        """Refuses a sentence before it is completed.

        Args:
            **parts: `pairs` and `query`, or `frames` and `num_images`, as for the processor.

        Raises:
            UserError: If it is too long, or a pair's pictures differ in size.
        """
        _as_user_error(self.processor, **parts)

    def complete(
        self,
        sentences: Sequence[Sentence],
        batch_size: int = 16,
        output: str = IMAGE,
        palette: Sequence[Sequence[int]] | None = None,
        **generation: Any,
    ) -> list[Completion]:
        """Answers queries, each as if it were alone.

        Args:
            sentences: Pairs and queries.
            batch_size: Queries that are answered together.
            output: "image", "mask", "labels", or "auto" for what the pairs' targets look like, see `reading_of`.
            palette: Of label maps, see `reading_of`.
            **generation: `do_sample`, `temperature`, `top_k`, `top_p`, `num_candidates`, `seed`, as for the model's
                `complete`; where none is given, those of `default_generation`. Draws repeat where the batches are the
                same; batch i draws with `seed` + i. With `average` the picture is drawn of the codes that the model
                expected at each place, the mean over all candidates; the tokens are the likeliest candidate's.

        Returns:
            An answer for each, in order.

        Raises:
            UserError: If a sentence is not as described or too long, or an option makes no sense.
        """
        check_generation(generation)
        generation = generation or self.default_generation
        asked = self._checked(sentences)
        readings: dict[str, Reading] = {}
        for one in asked:
            if one.key not in readings:
                readings[one.key] = reading_of([target for _, target in one.pairs], output, palette)
        found: dict[int, Completion] = {}
        for number, (together, shared) in enumerate(self._batches(asked, batch_size)):
            for one, answer in zip(together, self._answers(together, shared, number, generation), strict=True):
                pixel_values, tokens, likelihood, candidates = answer
                found[one.place] = self._reader.read(
                    pixel_values, tokens, likelihood, one.query.size, readings[one.key], candidates
                )
        return [found[place] for place in range(len(asked))]

    def go_on(
        self, sequences: Sequence[Sequence[Image.Image]], num_images: int = 1, batch_size: int = 16, **generation: Any
    ) -> list[list[Completion]]:
        """Goes on with pictures that simply follow each other, such as a video's frames.

        Args:
            sequences: Lists of frames, at least one each.
            num_images: n, pictures to add to each.
            batch_size: Sequences that are continued together.
            **generation: As for `complete`.

        Returns:
            n pictures for each sequence, of the size of its last frame.

        Raises:
            UserError: If a sequence is empty or too long, or an option makes no sense.
        """
        check_generation(generation)
        if num_images < 1:
            raise UserError(f"num_images is {num_images}, so nothing is asked for: give 1 or more.")
        by_length: dict[int, list[int]] = defaultdict(list)
        for place, frames in enumerate(sequences):
            by_length[len(frames)].append(place)
        found: dict[int, list[Completion]] = {}
        batches = [batch for places in by_length.values() for batch in _cut(places, batch_size)]
        for number, places in enumerate(batches):
            frames = [list(sequences[place]) for place in places]
            inputs = _as_user_error(self.processor, frames=frames, num_images=num_images)
            drawn = self._generate(dict(inputs), number, generation, num_images=num_images)
            sizes = [to_rgb(one[-1]).size for one in frames]
            for row, (place, size) in enumerate(zip(places, sizes, strict=True)):
                rows = range(row * num_images, (row + 1) * num_images)
                found[place] = [self._reader.read(*drawn[at][:3], size, Reading(), drawn[at][3]) for at in rows]
        return [found[place] for place in range(len(sequences))]

    def reconstruct(self, pictures: Sequence[Image.Image], batch_size: int = 16) -> list[Completion]:
        """The pictures as the image tokenizer alone gives them back: the best that answers can be.

        Args:
            pictures: Of any size.
            batch_size: Pictures that are drawn together.

        Returns:
            A picture for each, with a `log_likelihood` of 0.
        """
        found = []
        for batch in _cut(list(pictures), batch_size):
            pixels = self.processor.image_processor(batch, return_tensors="pt")["pixel_values"]
            tokens = self.model.tokenize(pixels)
            drawn = self.model.draw(tokens).float().cpu()
            maps = tokens.cpu().view(-1, *self.model.config.vq_config.grid_size)
            for picture, pixel_values, image_tokens in zip(batch, drawn, maps, strict=True):
                found.append(self._reader.read(pixel_values, image_tokens, 0.0, to_rgb(picture).size, Reading()))
        return found

    def _checked(self, sentences: Sequence[Sentence]) -> list[_Asked]:
        names: dict[int, bytes] = {}  # of pictures that many sentences show, taken once

        def digest(picture: Image.Image) -> bytes:
            if id(picture) not in names:
                names[id(picture)] = content_digest(picture)
            return names[id(picture)]

        checked = []
        for place, sentence in enumerate(sentences):
            pairs = tuple(map(_as_pictures, sentence.pairs))
            if not pairs:
                raise UserError("There is no pair, so nothing says what is to be done: give solved (input, target).")
            if sentence.query is None:
                raise UserError("There is no query: give the picture that the pairs' task is to be done on as query.")
            key = hashlib.sha256(b"".join(digest(picture) for pair in pairs for picture in pair)).hexdigest()
            partial, rows = getattr(sentence, "partial", None), tuple(getattr(sentence, "known_rows", ()))
            if (partial is None) != (not rows):
                raise UserError("A partial answer is read by its known rows: give both partial and known_rows.")
            query = _as_user_error(as_picture, sentence.query)
            checked.append(_Asked(place, key, pairs, query, partial, rows))
        return checked

    def _batches(
        self, asked: Sequence[_Asked], batch_size: int
    ) -> Iterator[tuple[list[_Asked], SentencePrefix | None]]:
        """What is answered together, and the cache of what it begins with, if that is shared."""
        by_pairs: dict[str, list[_Asked]] = defaultdict(list)
        for one in asked:
            by_pairs[one.key].append(one)
        alone = []
        for key, group in by_pairs.items():
            if len(group) == 1 and len(by_pairs) > 1:
                alone += group
                continue
            prefix = self._read(key, group[0])
            for together in _cut_by_form(group, batch_size):
                yield together, prefix
        for together in _cut_by_form(alone, batch_size):
            yield together, None

    def _read(self, key: str, one: _Asked) -> SentencePrefix:
        """The cache of a sentence's pairs; that of the last pairs is kept."""
        if self._kept is None or self._kept[0] != key:
            inputs = _as_user_error(self.processor, pairs=list(one.pairs), query=one.query)
            before = inputs["input_ids"].shape[1] - self.processor.tokens_per_image
            self._kept = None  # two long caches need not lie in memory at once
            prefix = self.model.read(inputs["input_ids"][:, :before], inputs["pixel_values"][:-1])
            self._kept = (key, prefix)
        return self._kept[1]

    def _answers(
        self, together: list[_Asked], shared: SentencePrefix | None, number: int, generation: dict[str, Any]
    ) -> list[tuple]:
        queries, first = [one.query for one in together], together[0]
        known = {}
        if first.partial is not None:
            known = {"partial": [one.partial for one in together], "known_rows": first.known_rows}
        if shared is None:
            inputs = dict(_as_user_error(self.processor, [list(one.pairs) for one in together], queries, **known))
            return self._generate(inputs, number, generation, share_prefix=False)
        inputs = dict(_as_user_error(self.processor, query=queries, **known))
        size = self.processor.tokens_per_image
        inputs["input_ids"], inputs["attention_mask"] = inputs["input_ids"][:, -size:], None
        return self._generate(inputs, number, generation, prefix=shared)

    def _generate(
        self, inputs: dict[str, Any], number: int, generation: dict[str, Any], **options: Any
    ) -> list[tuple[torch.Tensor, torch.Tensor, float, torch.Tensor | None]]:
        """Pixel values, tokens, log-likelihood and candidates of each picture that was added."""
        if generation.get("seed") is not None:
            generation = {**generation, "seed": generation["seed"] + number}
        generation = dict(generation)
        average = generation.pop("average", False)
        found = _as_user_error(self.model.complete, **inputs, **options, **generation, expect_codes=average)
        count = found.image_tokens.shape[1]
        tokens = found.image_tokens.flatten(0, 1)
        drawn = self._mean_picture(found.expected_codes) if average else self.model.draw(tokens).float().cpu()
        likelihoods = found.log_likelihood.float().repeat_interleave(count).tolist()
        candidates: list = [None] * len(tokens)
        if found.candidates is not None:
            candidates = list(found.candidates.transpose(1, 2).flatten(0, 1).cpu())
        return list(zip(drawn, tokens.cpu(), likelihoods, candidates, strict=True))

    def _mean_picture(self, codes: torch.Tensor) -> torch.Tensor:
        """The mean picture [B * n, 3, S, S] of candidates' codes [B, c, n, D, h, w], each clipped to what shows."""
        batch, _, images = codes.shape[:3]
        drawn = torch.stack([self.model.draw_codes(one.flatten(0, 1)).float().cpu().clamp(-1, 1) for one in codes])
        return drawn.view(batch, -1, images, *drawn.shape[2:]).mean(1).flatten(0, 1)


def content_digest(picture: Image.Image) -> bytes:
    """A name of a picture's content."""
    rgb = to_rgb(picture)
    return hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).digest()


def _as_pictures(pair: Any) -> Pictures:
    """A pair as 8-bit RGB."""
    image, target = (pair.input, pair.target) if hasattr(pair, "target") else pair
    return _as_user_error(as_picture, image), _as_user_error(as_picture, target)


def _cut(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _cut_by_form(asked: Iterable[_Asked], size: int) -> Iterator[list[_Asked]]:
    by_form: dict[tuple, list[_Asked]] = defaultdict(list)
    for one in asked:
        by_form[one.form].append(one)
    for group in by_form.values():
        yield from _cut(group, size)


def _as_user_error(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a function of `modeling/` gives, which knows no `UserError`."""
    try:
        return call(*arguments, **options)
    except ValueError as error:
        raise UserError(str(error)) from error
