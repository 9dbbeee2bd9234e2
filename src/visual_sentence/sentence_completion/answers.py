"""How the model's pictures are read as answers: as pictures, masks or label maps, at the query's own size.

What the targets of the pairs look like says which of them is meant. A mask is stretched to the query's size and
foreground where a pixel is nearer to the foreground's colour; a label map is read by the nearest colour that the pairs
show (Painter, https://arxiv.org/abs/2212.02499, section 3.1) and stretched then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import UserError
from ..modeling import SimLVMProcessor, check_palette, nearest_colours, palette_of

AUTO, IMAGE, MASK, LABELS = "auto", "image", "mask", "labels"
OUTPUTS = (AUTO, IMAGE, MASK, LABELS)
Colour = tuple[int, int, int]
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
# Targets of more colours are taken for pictures, unless label maps are asked for.
FEW_COLOURS = 16
# A mask may have soft edges or come out of a JPEG: so many of its pixels are this near to black or white, all others
# grey.
MASK_SHARE, MASK_TOLERANCE = 0.9, 16
# Every so many-th row and column of a target is looked at first, where few colours are hoped for.
GLANCE = 8


@dataclass(frozen=True)
class Completion:
    """The answer to one query.

    Args:
        image: RGB, what the model drew, at the query's size.
        pixel_values: [3, S, S] float32 in about [-1, 1], what the model drew.
        image_tokens: [h, w] int64 in [0, K).
        log_likelihood: In nats, of all generated places among image tokens; of frames of all that were added together.
        mask: [H, W] bool, True is foreground; None where the answer is no mask.
        label_map: [H, W] int64, places in `palette`; None where the answer is no label map.
        palette: Colours of class 0, 1, ...; of a mask those of background and foreground.
        candidates: [c, h, w] int64, the tokens of all candidates, the likeliest first; None where there was one.
    """

    image: Image.Image
    pixel_values: torch.Tensor
    image_tokens: torch.Tensor
    log_likelihood: float
    mask: np.ndarray | None = None
    label_map: np.ndarray | None = None
    palette: tuple[Colour, ...] | None = None
    candidates: torch.Tensor | None = None

    @property
    def painted(self) -> Image.Image:
        """The mask or label map in plain colours, a mask in black and white; of pictures the picture."""
        if self.mask is not None:
            return Image.fromarray(self.mask.astype(np.uint8) * 255)
        if self.label_map is not None:
            return Image.fromarray(np.asarray(self.palette, dtype=np.uint8)[self.label_map])
        return self.image


@dataclass(frozen=True)
class Reading:
    """What answers are read as.

    Args:
        kind: "image", "mask" or "labels".
        palette: As in `Completion`; None for pictures, and for masks of brightness only.
    """

    kind: str = IMAGE
    palette: tuple[Colour, ...] | None = None


def reading_of(
    targets: Sequence[Image.Image], output: str = AUTO, palette: Sequence[Sequence[int]] | None = None
) -> Reading:
    """What is meant by the targets of some pairs.

    "auto" is a mask where at least 90 % of the targets' pixels are black or white and all others grey, a label map
    where the targets have 2 to 16 colours in all or a palette is given, else a picture.

    Args:
        targets: RGB, at least one.
        output: One of `OUTPUTS`.
        palette: Colours (R, G, B) of class 0, 1, ... of a label map; by default those of the targets, black first, then
            by area.

    Raises:
        UserError: If the output is unknown, the palette is not that of the targets, or the targets cannot be what is
            asked for.
    """
    if output not in OUTPUTS:
        raise UserError(f"There is no output {output!r}: choose one of {', '.join(OUTPUTS)}.")
    if palette is not None:
        if output not in (AUTO, LABELS):
            raise UserError(f"A palette is of label maps, but the output is {output!r}: leave one of them out.")
        return Reading(LABELS, _checked(palette, targets))
    if output == IMAGE:
        return Reading()
    if output != LABELS and all(map(is_mask, targets)):
        return Reading(MASK, (BLACK, WHITE))
    if output == MASK:
        return _mask_of(targets)
    if output == LABELS:
        return Reading(LABELS, tuple(_user_error(palette_of, targets)))
    colours = _few_colours(targets)
    return Reading() if colours is None else Reading(LABELS, colours)


def is_mask(target: Image.Image) -> bool:
    """Whether a picture is black and white, but for soft edges.

    Args:
        target: RGB.
    """
    pixels = np.asarray(target, dtype=np.int16)
    low, high = pixels.min(2), pixels.max(2)
    if (high - low > MASK_TOLERANCE).any():
        return False
    return bool(((high <= MASK_TOLERANCE) | (low >= 255 - MASK_TOLERANCE)).mean() >= MASK_SHARE)


def _mask_of(targets: Sequence[Image.Image]) -> Reading:
    """How masks are read of targets that are not black and white."""
    colours = _few_colours(targets)
    if colours is None:
        return Reading(MASK)
    if len(colours) > 2:
        raise UserError(
            f"The pairs' targets have {len(colours)} colours, so it is not said which of them a mask is of: read label "
            "maps instead (output 'labels'), or give black and white targets."
        )
    return Reading(MASK, colours)


def _few_colours(targets: Sequence[Image.Image]) -> tuple[Colour, ...] | None:
    """The 2 to 16 colours that the targets have together; None where there are fewer or more."""
    for target in targets:
        some = np.asarray(target)[::GLANCE, ::GLANCE].reshape(-1, 3)
        if len(np.unique(some, axis=0)) > FEW_COLOURS:
            return None
    try:
        colours = palette_of(targets)
    except ValueError:
        return None
    return tuple(colours) if 2 <= len(colours) <= FEW_COLOURS else None


def _checked(palette: Sequence[Sequence[int]], targets: Sequence[Image.Image]) -> tuple[Colour, ...]:
    try:
        colours = tuple((int(red), int(green), int(blue)) for red, green, blue in palette)
    except (TypeError, ValueError):
        raise UserError(
            "The palette is no list of colours (R, G, B) from 0 to 255: give e.g. [(0, 0, 0), (255, 0, 0)]."
        ) from None
    if not colours:
        raise UserError("The palette is empty, so nothing can be read by it: give the colours of the targets.")
    _user_error(check_palette, targets, colours)
    return colours


def _user_error(check: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of `modeling/` gives, which knows no `UserError`."""
    try:
        return check(*arguments)
    except ValueError as error:
        raise UserError(str(error)) from error


@dataclass(frozen=True)
class AnswerReader:
    """Makes answers of what the model drew.

    Args:
        processor: The model's processor.
    """

    processor: SimLVMProcessor

    @cached_property
    def _crops(self) -> bool:
        return self.processor.image_processor.local_fit == "crop"

    def picture(self, pixel_values: torch.Tensor, size: tuple[int, int]) -> Image.Image:
        """The drawn picture at the size of its query; black where the model's view did not reach.

        Args:
            pixel_values: [3, S, S] in [-1, 1]; values outside are clipped.
            size: Width and height of the query.
        """
        seen = (min(size),) * 2 if self._crops else size
        (picture,) = self.processor.postprocess(pixel_values[None], [seen])
        if picture.size == size:
            return picture
        canvas = Image.new("RGB", size)
        canvas.paste(picture, ((size[0] - seen[0]) // 2, (size[1] - seen[1]) // 2))
        return canvas

    def _labels(self, pixel_values: torch.Tensor, size: tuple[int, int], palette: Sequence[Colour]) -> np.ndarray:
        """[H, W] int64; where the model's view did not reach, the class of black."""
        seen = (min(size),) * 2 if self._crops else size
        (labels,) = self.processor.postprocess_label_maps(pixel_values[None], palette, [seen])
        found = np.full(size[::-1], nearest_colours(np.zeros((1, 1, 3), np.uint8), palette)[0, 0], np.int64)
        left, top = (size[0] - seen[0]) // 2, (size[1] - seen[1]) // 2
        found[top : top + seen[1], left : left + seen[0]] = labels
        return found

    def read(
        self,
        pixel_values: torch.Tensor,
        image_tokens: torch.Tensor,
        log_likelihood: float,
        size: tuple[int, int],
        reading: Reading,
        candidates: torch.Tensor | None = None,
    ) -> Completion:
        """One answer.

        Args:
            pixel_values: As in `Completion`.
            image_tokens: As in `Completion`.
            log_likelihood: As in `Completion`.
            size: Width and height of the query.
            reading: What it is read as.
            candidates: As in `Completion`.
        """
        picture = self.picture(pixel_values, size)
        mask = labels = None
        if reading.kind == MASK and reading.palette is None:
            mask = np.asarray(picture, dtype=np.float32).mean(2) > 127.5
        elif reading.kind == MASK and reading.palette is not None:
            mask = nearest_colours(np.asarray(picture), reading.palette) == 1
        elif reading.kind == LABELS and reading.palette is not None:
            labels = self._labels(pixel_values, size, reading.palette)
        return Completion(
            picture, pixel_values, image_tokens, log_likelihood, mask, labels, reading.palette, candidates
        )
