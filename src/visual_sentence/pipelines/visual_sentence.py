"""`pipeline("visual-sentence")`: a task shown by solved pairs of pictures, done on a new picture.

LVM (https://arxiv.org/abs/2312.00785), DeLVM (https://arxiv.org/abs/2402.04841) and SimLVM: pictures as tokens, a
language model that goes on with the sentence, and the way back to a picture, a mask or a label map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import UserError
from ..modeling import SimLVMProcessor
from ..sentence_completion.answers import AUTO, OUTPUTS, Completion
from ..sentence_completion.completer import Question, SentenceCompleter
from ..sentence_completion.generation import GENERATION
from ..sentence_completion.loading import check_kind
from ..sentence_completion.opening import refuse_video
from .base import VisualPipeline
from .inputs import Picture, open_picture

SENTENCE_TASK = "visual-sentence"
SENTENCE_KEYS = {"query", "pairs", "partial", "known_rows"}
SEQUENCE_KEYS = {"frames", "num_images"}
Opened = tuple[Image.Image, Image.Image]


@dataclass(frozen=True)
class SentenceInput:
    """One input, its pictures opened.

    Args:
        query: The picture that is to be answered; None for frames.
        pairs: Its own pairs; None for those of the call.
        partial: An answer that is known in part.
        known_rows: Which rows of it.
        frames: Pictures to go on with.
        num_images: How many to add to them; None for the call's number.
    """

    query: Image.Image | None = None
    pairs: tuple[Opened, ...] | None = None
    partial: Image.Image | None = None
    known_rows: tuple[int, ...] | None = None
    frames: tuple[Image.Image, ...] | None = None
    num_images: int | None = None


class VisualSentencePipeline(VisualPipeline):
    """In-context tasks on pictures.

    Args:
        model: A `SimLVMForVisualSentence`; by name a folder or a Hub id, or nothing for the one that ships.
        processor: Its `SimLVMProcessor`; made of `image_processor` and the model's config where there is none.
        **kwargs: As for every pipeline (`device`, `batch_size`, ...); and defaults for what a call takes.

    Raises:
        UserError: If the model is of another kind, or the processor is another model's.

    Example:
        >>> complete = pipeline("visual-sentence")
        >>> complete("new.png", pairs=[("a.png", "a_mask.png"), ("b.png", "b_mask.png")])["mask"].mean()
    """

    _load_processor = _load_image_processor = None  # loaded where they are there; `__init__` says what is missing

    task_name = SENTENCE_TASK
    forward_parameters = ("pairs", "output", "palette", "partial", "known_rows", "num_images", *GENERATION)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        config = self.model.config
        check_kind(config, config.name_or_path or "The model")
        processor: Any = self.processor
        if processor is None:
            converter = self.model.converter
            processor = self.processor = SimLVMProcessor(
                self.image_processor,
                tokens_per_image=config.tokens_per_image,
                max_images=config.max_images,
                pad_id=converter.pad_id,
                begin_id=converter.begin_id,
            )
        self.completer = SentenceCompleter(self.model, processor)
        self._opened: tuple[Any, list[Opened]] = (None, [])

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Does on pictures what was done in the pairs.

        Args:
            inputs: One query (PIL, path, URL, array); a mapping `{"query": ..., "pairs": [...]}` with pairs of its own,
                and perhaps `partial` and `known_rows`; or `{"frames": [...], "num_images": n}`, pictures that simply
                follow each other; a list of these, or anything that pipelines stream from.
            pairs: (input, target) pictures, each pair of one size: the task, shown.
            output: "image", "mask" or "labels"; "auto" (default) for what the targets look like, see
                `visual_sentence.sentence_completion.answers.reading_of`.
            palette: Colours (R, G, B) of class 0, 1, ... of label maps; by default those of the targets.
            partial: An answer of which the rows of tokens `known_rows` are known.
            known_rows: From 0 at the top.
            num_images: Pictures to add to frames (1).
            do_sample: Whether tokens are drawn; else (default) the likeliest is taken.
            temperature: Divides the logits of a draw.
            top_k: Draw from so many likeliest tokens; 0 for all.
            top_p: Draw from the likeliest tokens of this total probability.
            num_candidates: Draws per query, of which the likeliest is kept.
            average: Whether the picture is the mean of what the model expects, over all candidates, instead.
            seed: Makes draws repeatable.
            on_error: "raise", or "report" an input that cannot be read in its place, see `VisualPipeline`.

        Returns:
            For each input `{"image", "mask", "label_map", "palette", "log_likelihood", "image_tokens"}`: what the model
            drew, PIL of the query's size; [H, W] bool and [H, W] int64 of the same size, None where the answer is none;
            the colours that it was read by; nats; and h rows of w tokens. For frames also "images", all that were
            added, "image" being the first.

        Raises:
            UserError: If pairs are missing, too many or of different sizes, or an option makes no sense.
        """
        return super().__call__(inputs, **kwargs)

    def check(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Refuses pairs and outputs that cannot be, before a picture is read."""
        if parameters.get("pairs") is not None:
            parameters["pairs"] = check_pairs_given(parameters["pairs"])
        if parameters.get("output", AUTO) not in OUTPUTS:
            raise UserError(f"There is no output {parameters['output']!r}: choose one of {', '.join(OUTPUTS)}.")
        return parameters

    def read(self, image: Any) -> dict[str, SentenceInput]:
        """One input with its pictures opened; what is of itself only is checked here."""
        is_sentence = isinstance(image, Mapping) and not {"frames", "query", "pairs"}.isdisjoint(image)
        given = dict(image) if is_sentence else {"query": image}
        if unknown := sorted(set(map(str, given)) - SENTENCE_KEYS - SEQUENCE_KEYS):
            known = ", ".join(sorted(SENTENCE_KEYS | SEQUENCE_KEYS))
            raise UserError(f"An input has {unknown[0]!r}, which would change nothing: it may have {known}.")
        if given.get("frames") is not None:
            return {"given": self._read_frames(given)}
        if given.get("query") is None:
            raise UserError("There is no query: give the picture that the pairs' task is to be done on as query.")
        if given.get("num_images") is not None:
            raise UserError("num_images is of frames; a query has one answer: leave it out, or give frames.")
        query, pairs = open_shown(given["query"]), None
        if given.get("pairs") is not None:
            pairs = tuple((open_shown(one), open_shown(two)) for one, two in check_pairs_given(given["pairs"]))
            self.completer.check_fits(pairs=list(pairs), query=query)
        partial = None if given.get("partial") is None else open_shown(given["partial"])
        rows = None if given.get("known_rows") is None else tuple(given["known_rows"])
        return {"given": SentenceInput(query, pairs, partial, rows)}

    def _read_frames(self, given: Mapping[str, Any]) -> SentenceInput:
        if extra := sorted(name for name in SENTENCE_KEYS if given.get(name) is not None):
            raise UserError(f"frames are a sentence of their own, without {extra[0]}: give either frames or a query.")
        frames = tuple(map(open_shown, given["frames"]))
        self.completer.check_fits(frames=list(frames), num_images=given.get("num_images") or 1)
        return SentenceInput(frames=frames, num_images=given.get("num_images"))

    def answer(
        self,
        inputs: dict[str, list[SentenceInput]],
        pairs: list[tuple[Picture, Picture]] | None = None,
        output: str = AUTO,
        palette: Sequence[Sequence[int]] | None = None,
        partial: Picture | None = None,
        known_rows: Sequence[int] | None = None,
        num_images: int | None = None,
        **generation: Any,
    ) -> dict[str, list[Any]]:
        """The answers to B inputs, one picture each, or several of frames."""
        given = inputs["given"]
        found: list[list[Completion]] = [[] for _ in given]
        sequences = [place for place, one in enumerate(given) if one.frames is not None]
        queries = [place for place, one in enumerate(given) if one.frames is None]
        if queries and num_images not in (None, 1):
            raise UserError("num_images is of frames; a query has one answer: leave it out, or give frames.")
        shown = self._open(pairs)
        known = None if partial is None else open_shown(partial)
        questions = []
        for one in (given[place] for place in queries):
            if one.pairs is None and not shown:
                raise UserError(
                    f"{self.task_name} needs pairs: pass pairs=[(input, target), ...], or inputs that have their own."
                )
            rows = one.known_rows if one.known_rows is not None else tuple(known_rows or ())
            assert one.query is not None  # else it has frames
            questions.append(Question(one.pairs or shown, one.query, one.partial or known, rows))
        answers = self.completer.complete(questions, len(given), output, palette, **generation)
        for place, answer in zip(queries, answers, strict=True):
            found[place] = [answer]
        for count in sorted({given[place].num_images or num_images or 1 for place in sequences}):
            places = [place for place in sequences if (given[place].num_images or num_images or 1) == count]
            added = self.completer.go_on([given[at].frames or () for at in places], count, len(given), **generation)
            for place, completions in zip(places, added, strict=True):
                found[place] = completions
        return {"answers": found, "is_sequence": [one.frames is not None for one in given]}

    def finish(self, row: dict[str, Any]) -> dict[str, Any]:
        """The answer to one input."""
        answers: list[Completion] = row["answers"]
        first = answers[0]
        found = {
            "image": first.image,
            "mask": first.mask,
            "label_map": first.label_map,
            "palette": None if first.palette is None else list(first.palette),
            "log_likelihood": first.log_likelihood,
            "image_tokens": first.image_tokens.tolist(),
        }
        return {**found, "images": [one.image for one in answers]} if row["is_sequence"] else found

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """As `VisualPipeline.save_pretrained`, with the whole processor.

        Args:
            save_directory: The folder, which is made.
            **kwargs: For the model's `save_pretrained`.
        """
        super().save_pretrained(save_directory, **kwargs)
        self.completer.processor.save_pretrained(save_directory)

    def _open(self, pairs: list[tuple[Picture, Picture]] | None) -> list[Opened]:
        """The call's pairs, opened once for all its batches."""
        if self._opened[0] is not pairs:
            self._opened = (pairs, [(open_shown(one), open_shown(two)) for one, two in pairs or ()])
        return self._opened[1]


def open_shown(picture: Picture) -> Image.Image:
    """As `open_picture`; of a video it says what to do.

    Raises:
        UserError: If it cannot be read.
    """
    if isinstance(picture, (str, Path)):
        refuse_video(picture)
    return open_picture(picture)


def check_pairs_given(pairs: Any) -> list[tuple[Picture, Picture]]:
    """Pairs in one form.

    Raises:
        UserError: If it is no list of pairs.
    """
    if isinstance(pairs, (str, Path, Image.Image, Mapping)) or not hasattr(pairs, "__iter__"):
        raise UserError(
            f"pairs is a list of (input, target), found {type(pairs).__name__}: give [(input, target), ...]."
        )
    checked = []
    for place, pair in enumerate(pairs, start=1):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise UserError(f"Pair {place} is no pair: give (input, target) for each.")
        checked.append((pair[0], pair[1]))
    if not checked:
        raise UserError("pairs is empty, so nothing says what is to be done: give at least one (input, target).")
    return checked
