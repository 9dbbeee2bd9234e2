"""Pictures as visual sentences, and the model's images as pictures, masks or label maps. Level 2."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature, ProcessorMixin

from .image_processing_v2l import Picture, to_rgb
from .image_processing_vqgan import VQGANImageProcessor
from .image_token_converter import PLACEHOLDER

Pair = tuple[Picture, Picture]
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv")
# More colours than this in a target, and it is no label map but a picture.
MOST_COLOURS = 64


class SimLVMProcessor(ProcessorMixin):
    """Writes visual sentences: places for image tokens, and the pictures that belong there.

    Args:
        image_processor: Makes squares of pictures; "stretch" keeps the whole picture in view, as LVM does.
        tokens_per_image: T.
        max_images: Images of the longest sentence, the answer counted in.
        pad_id: Fills shorter sentences up, on the left.
        begin_id: What every sentence begins with; None for nothing.

    Example:
        >>> inputs = processor(pairs=[(image, mask), (other_image, other_mask)], query=a_third)
        >>> images = model.draw(model.complete(**inputs).image_tokens[:, 0])
        >>> masks = processor.postprocess_masks(images, sizes=[a_third.size])
    """

    def __init__(
        self,
        image_processor: VQGANImageProcessor | None = None,
        tokens_per_image: int = 256,
        max_images: int = 16,
        pad_id: int = 0,
        begin_id: int | None = None,
    ):
        super().__init__(image_processor)
        self.tokens_per_image = tokens_per_image
        self.max_images = max_images
        self.pad_id = pad_id
        self.begin_id = begin_id

    def __call__(
        self,
        pairs: Sequence[Pair] | Sequence[Sequence[Pair]] | None = None,
        query: Picture | Sequence[Picture] | None = None,
        frames: Sequence[Picture] | Sequence[Sequence[Picture]] | None = None,
        partial: Picture | Sequence[Picture] | None = None,
        known_rows: Sequence[int] | None = None,
        num_images: int = 1,
    ) -> BatchFeature:
        """Writes one sentence, or a batch.

        Args:
            pairs: Solved examples, (input, target) each; for a batch a list of such lists. Together with `query`.
            query: The picture that is to be answered; for a batch a list. One list of pairs may stand for all of them.
            frames: Instead of these, pictures that simply follow each other; for a batch a list of lists.
            partial: The answer, of which some is known already; for a batch a list.
            known_rows: Which rows of tokens of it are known, from 0 at the top.
            num_images: Images that will be asked for, for which room is kept.

        Returns:
            `input_ids` [B, L] int64 with -1 for each place of a picture's token, `attention_mask` [B, L],
            `pixel_values` [N, 3, S, S] float32, the N pictures of all sentences in order; and with `partial`
            `known_pixel_values` [B, 3, S, S] and `known_rows` [B, h] bool.

        Raises:
            ValueError: If there is no query, a pair's two pictures differ in size, or the sentence is too long.
        """
        sentences = self._sentences(pairs, query, frames, num_images)
        pixels = self.image_processor([picture for one in sentences for picture in one], return_tensors="pt")
        rows = [self._places(len(one)) for one in sentences]
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self.pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, longest - len(row) :] = row
            mask[place, longest - len(row) :] = 1
        found = {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels["pixel_values"]}
        if partial is not None or known_rows is not None:
            found |= self._known(partial, known_rows, len(sentences))
        return BatchFeature(found)

    def postprocess(
        self, pixel_values: torch.Tensor, sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Image.Image]:
        """The model's images as pictures.

        Args:
            pixel_values: [B, 3, S, S] in [-1, 1]; values outside are clipped.
            sizes: (width, height) of each; the model's own by default.
        """
        pictures = self.image_processor.postprocess(pixel_values)
        if sizes is None:
            return pictures
        return [
            picture if picture.size == tuple(size) else picture.resize(tuple(size), Image.Resampling.BICUBIC)
            for picture, size in zip(pictures, sizes, strict=True)
        ]

    def postprocess_masks(
        self,
        pixel_values: torch.Tensor,
        sizes: Sequence[tuple[int, int]] | None = None,
        threshold: float = 0.5,
    ) -> list[np.ndarray]:
        """The model's images as masks.

        Args:
            pixel_values: [B, 3, S, S] in [-1, 1].
            sizes: (width, height) of each.
            threshold: Brightness in [0, 1], the mean of the channels, above which a pixel is foreground.

        Returns:
            B arrays [H, W] bool.
        """
        pictures = self.postprocess(pixel_values, sizes)
        return [np.asarray(picture, dtype=np.float32).mean(2) > threshold * 255 for picture in pictures]

    def postprocess_label_maps(
        self,
        pixel_values: torch.Tensor,
        palette: Sequence[tuple[int, int, int]],
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> list[np.ndarray]:
        """The model's images as label maps: each pixel the colour of the palette that is nearest (Painter).

        Colours are read before maps are stretched: a colour between those of two classes may be a third's.

        Args:
            pixel_values: [B, 3, S, S] in [-1, 1].
            palette: Colours of class 0, 1, ...; see `palette_of`.
            sizes: (width, height) of each.

        Returns:
            B arrays [H, W] int64, places in the palette.
        """
        maps = [nearest_colours(np.asarray(picture), palette) for picture in self.postprocess(pixel_values)]
        if sizes is None:
            return maps
        drawn = (Image.fromarray(labels.astype(np.int32)) for labels in maps)
        nearest = Image.Resampling.NEAREST
        return [np.asarray(one.resize(size, nearest), np.int64) for one, size in zip(drawn, sizes, strict=True)]

    def _sentences(
        self, pairs: Sequence | None, query: object, frames: Sequence | None, num_images: int
    ) -> list[list[Image.Image]]:
        if frames is not None:
            if pairs is not None or query is not None:
                raise ValueError("frames is a sentence of its own: give either frames, or pairs and a query.")
            batch = frames if frames and isinstance(frames[0], (list, tuple)) else [frames]
            sentences = [[as_picture(frame) for frame in one] for one in batch]
        else:
            if query is None:
                raise ValueError("There is no query: give the picture that the pairs' task is to be done on as query.")
            queries = list(query) if isinstance(query, (list, tuple)) else [query]
            lists = self._lists_of_pairs(pairs or [], len(queries))
            shared = [check_pairs(lists[0])] * len(lists) if all(one is lists[0] for one in lists) else None
            checked = shared or [check_pairs(one) for one in lists]
            sentences = [
                [picture for pair in one for picture in pair] + [as_picture(asked)]
                for one, asked in zip(checked, queries, strict=True)
            ]
        for one in sentences:
            if not one:
                raise ValueError("A sentence has no picture: give at least one.")
            self._check_length(len(one), num_images, frames is not None)
        return sentences

    @staticmethod
    def _lists_of_pairs(pairs: Sequence, queries: int) -> list[Sequence[Pair]]:
        # a pair is a tuple of two pictures, so lists of pairs are told apart by what their first entry holds
        nested = (
            bool(pairs)
            and isinstance(pairs[0], (list, tuple))
            and all(isinstance(one, (list, tuple)) for one in pairs[0])
        )
        lists = list(pairs) if nested else [pairs] * queries
        if len(lists) != queries:
            raise ValueError(f"There are {len(lists)} lists of pairs and {queries} queries: give one list for each.")
        return lists

    def _check_length(self, given: int, num_images: int, is_sequence: bool) -> None:
        if given + num_images <= self.max_images:
            return
        room = max(self.max_images - num_images, 0)
        if is_sequence:
            raise ValueError(
                f"{room} frames fit, you gave {given}: this model reads {self.max_images} images, {num_images} of them "
                "the answer."
            )
        raise ValueError(
            f"{max(room - 1, 0) // 2} pairs fit, you gave {(given - 1) // 2}: this model reads {self.max_images} "
            f"images, the query and {num_images} for the answer among them."
        )

    def _places(self, images: int) -> torch.Tensor:
        begin = [] if self.begin_id is None else [self.begin_id]
        return torch.tensor(begin + [PLACEHOLDER] * (images * self.tokens_per_image))

    def _known(self, partial: object, rows: Sequence[int] | None, batch: int) -> dict[str, torch.Tensor]:
        if partial is None or rows is None:
            raise ValueError("partial is the picture of which something is known, known_rows says what: give both.")
        pictures = [as_picture(one) for one in (partial if isinstance(partial, (list, tuple)) else [partial])]
        if len(pictures) != batch:
            raise ValueError(f"There are {len(pictures)} partial pictures and {batch} sentences: give one for each.")
        height = round(self.tokens_per_image**0.5)
        wrong = [row for row in rows if not 0 <= row < height]
        if wrong:
            raise ValueError(f"known_rows names row {wrong[0]}, but a picture has rows 0 to {height - 1} of tokens.")
        known = torch.zeros(batch, height, dtype=torch.bool)
        known[:, list(rows)] = True
        pixels = self.image_processor(pictures, return_tensors="pt")["pixel_values"]
        return {"known_pixel_values": pixels, "known_rows": known}


def as_picture(given: Any) -> Image.Image:
    """One picture as 8-bit RGB.

    Raises:
        ValueError: If it is a path, or no picture.
    """
    if isinstance(given, (str, os.PathLike)):
        if str(given).lower().endswith(VIDEO_SUFFIXES):
            raise ValueError(
                f"{given} is a video, and a sentence is made of pictures: take frames out of it first, by "
                "`visual-sentence keyframes`."
            )
        raise ValueError(f"{given} is a path: open the picture first, e.g. with PIL.Image.open.")
    return to_rgb(given)


def check_pairs(pairs: Sequence[Pair]) -> list[tuple[Image.Image, Image.Image]]:
    """Pairs as pictures of one size each.

    Raises:
        ValueError: If an entry is no pair, or its two pictures differ in size.
    """
    checked = []
    for place, pair in enumerate(pairs, start=1):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(f"Pair {place} is no pair: give (input, target) for each.")
        image, target = (as_picture(one) for one in pair)
        if image.size != target.size:
            raise ValueError(
                f"Pair {place} has an input of {image.size[0]} x {image.size[1]} pixels and a target of "
                f"{target.size[0]} x {target.size[1]}, so they would not lie on each other: bring both to one size."
            )
        checked.append((image, target))
    return checked


def palette_of(targets: Sequence[Picture]) -> list[tuple[int, int, int]]:
    """The colours that targets are painted in, black first, then by how much of them there is.

    Args:
        targets: Pictures of a few plain colours.

    Raises:
        ValueError: If there are too many colours for label maps.
    """
    counts: dict[int, int] = {}
    for target in targets:
        pixels = np.asarray(to_rgb(target), dtype=np.int64)
        codes, numbers = np.unique(pixels @ np.array([65536, 256, 1]), return_counts=True)
        for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
            counts[code] = counts.get(code, 0) + number
    if len(counts) > MOST_COLOURS:
        raise ValueError(
            f"The targets have {len(counts)} colours, so they are pictures and no label maps (saved as JPEG perhaps): "
            "read the answer as a picture, or give label maps as PNG."
        )
    order = sorted(counts, key=lambda code: (code != 0, -counts[code], code))
    return [(code >> 16, code >> 8 & 255, code & 255) for code in order]


def check_palette(targets: Sequence[Picture], palette: Sequence[tuple[int, int, int]]) -> None:
    """Refuses a palette that is not that of the targets.

    Raises:
        ValueError: If a colour of either is missing in the other.
    """
    shown, wanted = set(palette_of(targets)), {tuple(colour) for colour in palette}
    if odd := sorted(shown - wanted):
        raise ValueError(
            f"The pairs' targets have the colour {odd[0]}, which the palette has not: what the model answers in it "
            "could not be read; add it, or repaint the targets."
        )
    if absent := sorted(wanted - shown):
        raise ValueError(
            f"The palette has the colour {absent[0]}, which no pair's target shows, so the model cannot know it: show "
            "it in a pair, or leave it out."
        )


def nearest_colours(pixels: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Places [H, W] int64 in the palette of the colours nearest to pixels [H, W, 3] uint8; the first of equals."""
    colours = np.asarray(palette, dtype=np.int64)
    if colours.ndim != 2 or colours.shape[1] != 3 or len(colours) == 0:
        raise ValueError("A palette is a list of colours (R, G, B).")
    best = np.full(pixels.shape[:2], np.iinfo(np.int64).max)
    found = np.zeros(pixels.shape[:2], dtype=np.int64)
    for place, colour in enumerate(colours):
        distance = ((pixels.astype(np.int64) - colour) ** 2).sum(2)
        nearer = distance < best
        best[nearer], found[nearer] = distance[nearer], place
    return found


__all__ = ["SimLVMProcessor", "check_palette", "nearest_colours", "palette_of"]
