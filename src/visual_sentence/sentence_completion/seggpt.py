"""SegGPT as a completer: what the strongest open segmentation in context makes of the same sentences.

SegGPT (https://arxiv.org/abs/2304.03284) paints the mask of a query beside one solved pair; of several pairs each is
asked, and what they make of the query is averaged in every layer. Masks only.
"""

import inspect
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import SegGptConfig, SegGptForImageSegmentation, SegGptImageProcessor

from ..errors import UserError
from ..language import choose_device
from ..modeling.processing_simlvm import as_picture
from ..references import LOADING_ERRORS, OFFLINE, load_config, resolve, unreachable
from ..shipped import DEFAULT
from .answers import BLACK, WHITE, Completion, is_mask
from .completer import Sentence, SentenceCompleter

# What a mask is of: one thing, or all things of a class; SegGPT has a token for each and takes the first by default.
EMBEDDING_TYPES = ("instance", "semantic")
Pictures = tuple[Image.Image, Image.Image]


@dataclass(frozen=True)
class WholePictures:
    """How pictures reach the model: whole, stretched to its square."""

    local_fit: str = "stretch"


@dataclass(frozen=True)
class AnyPairs:
    """What evaluations ask of a completer's processor: every pair is a pass of its own, so nothing limits them."""

    max_images: int = sys.maxsize
    image_processor: WholePictures = field(default_factory=WholePictures)


class SegGptCompleter:
    """Completes visual sentences whose answers are masks, as `SentenceCompleter` does.

    Args:
        model: The model.
        image_processor: Its image processor.
        name: What the model is called, for messages.
        embedding_type: "instance" or "semantic".

    Raises:
        UserError: If the two do not belong together, or there is no such type.

    Example:
        >>> completer = SegGptCompleter.load("BAAI/seggpt-vit-large")
        >>> (answer,) = completer.complete([Question([(image, mask)], another)])
        >>> answer.mask.mean()
    """

    def __init__(
        self,
        model: SegGptForImageSegmentation,
        image_processor: SegGptImageProcessor,
        name: str | None = None,
        embedding_type: str = "instance",
    ):
        self.name = name or model.config.name_or_path or "this model"
        if embedding_type not in EMBEDDING_TYPES:
            raise UserError(f"SegGPT has no embedding type {embedding_type!r}: use {' or '.join(EMBEDDING_TYPES)}.")
        sides: Any = model.config.image_size  # of SegGPT always a pair
        height, width = sides
        self.size = (height // 2, width)  # a pair stands above its query
        made = (image_processor.size["height"], image_processor.size["width"])
        if made != self.size:
            raise UserError(
                f"{self.name}: its processor makes pictures of {made[0]} x {made[1]} pixels, but the model reads "
                f"{self.size[0]} x {self.size[1]}: they do not belong together; save the model's own processor beside "
                "it."
            )
        self.model = model.eval()
        self.image_processor: Any = image_processor  # whose own arguments its annotations leave out
        self.embedding_type = embedding_type
        self.processor = AnyPairs()

    @classmethod
    def load(
        cls, reference: str | Path, device: str | None = None, embedding_type: str = "instance"
    ) -> "SegGptCompleter":
        """Loads a model with its processor.

        Args:
            reference: A folder or a Hub id, such as BAAI/seggpt-vit-large.
            device: Where to put it; the first accelerator by default, else the CPU.
            embedding_type: "instance" or "semantic".

        Raises:
            UserError: If there is no such model, it is of another kind, or parts of it are missing.
        """
        device = choose_device(device)
        name = str(reference)
        folder = resolve(name, "simlvm")
        config = load_config(name, folder)
        if not isinstance(config, SegGptConfig):
            raise UserError(f"{name} is a {config.model_type} model, not SegGPT: give a folder or a Hub id of SegGPT.")
        try:
            loaded: Any = SegGptForImageSegmentation.from_pretrained(folder, output_loading_info=True)
            model, report = loaded
            image_processor = SegGptImageProcessor.from_pretrained(folder)
        except LOADING_ERRORS as error:
            raise unreachable(name, error) from error
        if missing := sorted(report["missing_keys"]):
            raise UserError(
                f"{name} lacks {len(missing)} weights, among them {missing[0]}, which would be random: give a folder "
                "with the whole model."
            )
        return cls(model.to(device), image_processor, name, embedding_type)

    @torch.no_grad()
    def complete(self, sentences: Sequence[Sentence], batch_size: int = 16, **generation: Any) -> list[Completion]:
        """Answers queries, each as if it were alone.

        Args:
            sentences: Pairs, whose targets are black and white, and queries.
            batch_size: Pairs that are read together; all pairs of one query always are.
            **generation: None: SegGPT draws nothing.

        Returns:
            An answer for each, in order: `pixel_values` [3, S, S] as painted, `mask` where the painted picture at the
            query's size is brighter than half grey; no image tokens (0 x 0), and a `log_likelihood` that is not a
            number.

        Raises:
            UserError: If a target is no mask, a sentence is not as described, or an option of generation is given.
        """
        if generation:
            raise UserError(
                f"SegGPT paints one answer, so {', '.join(sorted(generation))} would change nothing: leave out what "
                "says how answers are drawn (--candidates, --temperature)."
            )
        asked = [self._checked(sentence) for sentence in sentences]
        found: dict[int, Completion] = {}
        single = [place for place, (pairs, _) in enumerate(asked) if len(pairs) == 1]
        groups = [single[start : start + batch_size] for start in range(0, len(single), batch_size)]
        groups += [[place] for place, (pairs, _) in enumerate(asked) if len(pairs) > 1]
        for places in groups:
            rows = [(pair, asked[place][1]) for place in places for pair in asked[place][0]]
            painted = self._paint(rows, ensemble=len(rows) > len(places))
            for place, pixel_values in zip(places, painted, strict=False):  # rows of one query paint the same
                found[place] = _completion(pixel_values, asked[place][1].size)
        return [found[place] for place in range(len(asked))]

    def reconstruct(self, pictures: Sequence[Image.Image], batch_size: int = 16) -> list[Completion]:
        """Masks at the model's resolution: the best that answers can be, since SegGPT has no image tokenizer.

        Args:
            pictures: Black and white, of any size.
            batch_size: Has no effect.

        Raises:
            UserError: If one is no mask.
        """
        height, width = self.size
        found = []
        for picture in map(_as_picture, pictures):
            self._check_mask(picture)
            drawn = np.array(picture.resize((width, height), Image.Resampling.NEAREST))
            pixel_values = torch.from_numpy(drawn).permute(2, 0, 1) / 127.5 - 1
            found.append(_completion(pixel_values, picture.size))
        return found

    def _checked(self, sentence: Sentence) -> tuple[list[Pictures], Image.Image]:
        """Pairs and query as 8-bit RGB."""
        pairs = [pair if isinstance(pair, (tuple, list)) else (pair.input, pair.target) for pair in sentence.pairs]
        if not pairs:
            raise UserError("There is no pair, so nothing says what is to be done: give solved (input, target).")
        if sentence.query is None:
            raise UserError("There is no query: give the picture that the pairs' task is to be done on as query.")
        if getattr(sentence, "partial", None) is not None:
            raise UserError("SegGPT cannot go on with a partial answer: leave it out, or take a SimLVM.")
        pairs = [(_as_picture(image), _as_picture(target)) for image, target in pairs]
        for _, target in pairs:
            self._check_mask(target)
        return pairs, _as_picture(sentence.query)

    def _check_mask(self, target: Image.Image) -> None:
        if not is_mask(target):
            raise UserError(
                f"{self.name} is SegGPT, which answers with masks, but this task's targets are not black and white: "
                "take a task of masks, such as --task segmentation, or a SimLVM."
            )

    def _paint(self, rows: Sequence[tuple[Pictures, Image.Image]], ensemble: bool) -> torch.Tensor:
        """What is painted for each pair and query [B, 3, H, W] float32 in [-1, 1]; of an ensemble alike in all rows."""
        inputs = self.image_processor(
            images=[query for _, query in rows],
            prompt_images=[image for (image, _), _ in rows],
            prompt_masks=[target for (_, target), _ in rows],
            do_convert_rgb=False,  # the masks are RGB already
            return_tensors="pt",
        ).to(self.model.device, self.model.dtype)
        with _as_published(self.model):
            output = self.model(**inputs, feature_ensemble=ensemble, embedding_type=self.embedding_type)
        painted = output.pred_masks[:, :, self.size[0] :].float().cpu()
        mean, std = (
            torch.tensor(values).view(1, 3, 1, 1)
            for values in (self.image_processor.image_mean, self.image_processor.image_std)
        )
        return (painted * std + mean).clamp(0, 1) * 2 - 1


@contextmanager
def _as_published(model: SegGptForImageSegmentation) -> Generator[None, None, None]:
    """Ensembles as SegGPT's own code does.

    Up to and with the layer `merge_index` pictures and masks are separate rows, each to be averaged over the pairs with
    its own kind (baaivision/Painter, models_seggpt.py, `forward_encoder`); transformers averages both together in that
    one layer, so that even a pair that is given twice is answered otherwise than once.
    """
    layer = model.model.encoder.layers[model.config.merge_index]
    signature = inspect.signature(layer.forward)

    def apart(_: torch.nn.Module, arguments: tuple, options: dict) -> tuple[tuple, dict]:
        bound = signature.bind(*arguments, **options)
        if "ensemble_cond" in bound.arguments:
            bound.arguments["ensemble_cond"] = 2
        return bound.args, bound.kwargs

    hook = layer.register_forward_pre_hook(apart, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def load_completer(
    reference: str | Path | None = None, device: str | None = None
) -> SentenceCompleter | SegGptCompleter:
    """Loads what completes visual sentences, of either kind.

    Args:
        reference: A folder or a Hub id of a SimLVM or of SegGPT; None or "default" for the SimLVM that ships.
        device: Where to put it; the first accelerator by default, else the CPU.

    Raises:
        UserError: If there is no such model, or it is of another kind.
    """
    if reference is not None and str(reference) not in (DEFAULT, OFFLINE):
        name = str(reference)
        if isinstance(load_config(name, resolve(name, "simlvm")), SegGptConfig):
            return SegGptCompleter.load(name, device)
    return SentenceCompleter.load(reference, device)


def _completion(pixel_values: torch.Tensor, size: tuple[int, int]) -> Completion:
    """An answer of what was painted, [3, H, W] in [-1, 1], for a query of that width and height."""
    values = pixel_values.add(1).mul(127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
    picture = Image.fromarray(values.numpy())
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    mask = np.asarray(picture, dtype=np.float32).mean(2) > 127.5
    nothing = torch.empty((0, 0), dtype=torch.int64)
    return Completion(picture, pixel_values, nothing, float("nan"), mask, None, (BLACK, WHITE))


def _as_picture(given: Any) -> Image.Image:
    try:
        return as_picture(given)
    except ValueError as error:
        raise UserError(str(error)) from error
