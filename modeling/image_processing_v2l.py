"""Pictures of any kind to the two views that the V2L model looks at.

The local view (`pixel_values`) is what the local branch encodes and decodes, the global view
(`global_pixel_values`) is what the joint image-text encoder was trained on. Both are made with PIL from one
8-bit RGB picture, so that results do not depend on which backend is installed. Level 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling

# What a caller may give: pictures of PIL, arrays (H, W), (H, W, C) or tensors (H, W), (C, H, W).
Picture = Image.Image | np.ndarray | torch.Tensor

FITS = ("crop", "stretch")
WIDE_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


def to_rgb(image: Picture) -> Image.Image:
    """Turns any picture into 8-bit RGB.

    Transparent parts become white, 16-bit values are scaled to 8 bits, of an animation the first frame is taken,
    and a rotation noted in EXIF is applied.

    Args:
        image: PIL picture of any mode; or numpy array (H, W), (H, W, 1|3|4) or (1|3|4, H, W), or tensor of the same
            shapes: uint8 in [0, 255], uint16 in [0, 65535] or floating point in [0, 1].

    Raises:
        ValueError: If the shape or the range is none of these.
    """
    if not isinstance(image, Image.Image):
        image = _array_to_pil(image)
    image = ImageOps.exif_transpose(image)
    if image.mode in WIDE_MODES:
        values = np.asarray(image, dtype=np.float32)
        # "I" and "F" have no range of their own: what fits 8 bits is taken for 8 bits, what fits 16 for 16
        peak = 255.0 if image.mode in ("I", "F") and values.max(initial=0) <= 255 else 65535.0
        image = Image.fromarray((values.clip(0, peak) / peak * 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _array_to_pil(array: np.ndarray | torch.Tensor) -> Image.Image:
    """An array or tensor as an 8-bit picture; see `to_rgb` for what is accepted."""
    values = array.detach().cpu().float().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
    is_float = array.is_floating_point() if isinstance(array, torch.Tensor) else values.dtype.kind == "f"
    if values.ndim == 3 and values.shape[0] in (1, 3, 4) and values.shape[2] not in (1, 3, 4):
        values = values.transpose(1, 2, 0)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim != 2 and not (values.ndim == 3 and values.shape[2] in (3, 4)):
        raise ValueError(
            f"A picture must have shape (H, W), (H, W, C) or (C, H, W) with C = 1, 3 or 4, got {values.shape}."
        )
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if is_float:
        limit, kind = 1.0, "floating-point pictures must lie in [0, 1]"
    else:
        limit, kind = (255.0, "uint8 pictures lie in [0, 255]") if high <= 255 else (65535.0, "at most 16 bits a value")
    if not (low >= 0 and high <= limit):
        raise ValueError(f"Found values from {low:g} to {high:g}, but {kind}: convert the picture first.")
    return Image.fromarray((values.astype(np.float32) / limit * 255).round().astype(np.uint8))


class V2LImageProcessor(BaseImageProcessor):
    """Two views of a picture.

    The local view is resized so that its shorter side is `local_size`, cropped to the centre square (or, where
    `local_fit` says so, squashed to a square), and scaled to [-1, 1]. The global view is resized to `global_resize`
    (shorter side, or a square where `global_crop` is false), cropped to `global_size`, scaled to [0, 1] and normalised
    by `global_mean` and `global_std`.

    Args:
        local_size: Side of the local view (V2L Tokenizer, section 4.1: 128 pixels).
        local_fit: "crop", or "stretch": the whole picture, its aspect not kept (LVM).
        do_local_view: Whether to make the local view.
        do_global_view: Whether to make the global view.
        global_size: Side of the global view (CLIP ViT-L/14: 224 pixels).
        global_resize: Side to resize to before the crop; `global_size` by default.
        global_crop: Whether the aspect is kept and the centre cropped; otherwise the picture is squashed.
        global_resample: PIL's filter number (3 = bicubic, 2 = bilinear).
        global_mean: Mean of R, G, B in [0, 1].
        global_std: Standard deviation of R, G, B in [0, 1].

    Raises:
        ValueError: If `local_fit` is neither.
    """

    model_input_names = ["pixel_values", "global_pixel_values"]

    def __init__(
        self,
        local_size: int = 128,
        do_local_view: bool = True,
        do_global_view: bool = True,
        global_size: int = 224,
        global_resize: int | None = None,
        global_crop: bool = True,
        global_resample: int = PILImageResampling.BICUBIC,
        global_mean: Sequence[float] = OPENAI_CLIP_MEAN,
        global_std: Sequence[float] = OPENAI_CLIP_STD,
        local_fit: str = "crop",
        **kwargs,
    ):
        if local_fit not in FITS:
            raise ValueError(f"local_fit must be one of {', '.join(FITS)}, got {local_fit!r}.")
        super().__init__(**kwargs)
        self.local_size = local_size
        self.local_fit = local_fit
        self.do_local_view = do_local_view
        self.do_global_view = do_global_view
        self.global_size = global_size
        self.global_resize = global_resize or global_size
        self.global_crop = global_crop
        self.global_resample = int(global_resample)
        self.global_mean = list(global_mean)
        self.global_std = list(global_std)

    def __call__(self, images: Picture | Sequence[Picture], *args: Any, **kwargs: Any) -> BatchFeature:
        """As `preprocess`."""
        given: Any = images  # of more kinds than transformers' own take
        return super().__call__(given, *args, **kwargs)

    def preprocess(
        self,
        images: Picture | Sequence[Picture],
        return_tensors: str | None = None,
        do_local_view: bool | None = None,
        do_global_view: bool | None = None,
        **kwargs,
    ) -> BatchFeature:
        """Makes the views of one picture or several.

        Args:
            images: Pictures as `to_rgb` takes them; a tensor or array with four dimensions is a batch.
            return_tensors: "pt" for tensors, "np" or None for arrays.
            do_local_view: Overrides the processor's own setting.
            do_global_view: Overrides the processor's own setting.

        Returns:
            `pixel_values` [B, 3, R, R] float32 in [-1, 1] and `global_pixel_values` [B, 3, S, S] float32, as asked for.

        Raises:
            ValueError: If there is no picture, or one is not what `to_rgb` takes.
            TypeError: If an argument is unknown.
        """
        if kwargs:
            raise TypeError(f"V2LImageProcessor does not know {', '.join(sorted(kwargs))}.")
        pictures = [to_rgb(image) for image in as_list(images)]
        if not pictures:
            raise ValueError("No picture was given.")
        views = {}
        if self.do_local_view if do_local_view is None else do_local_view:
            views["pixel_values"] = np.stack([self._local_view(picture) for picture in pictures])
        if self.do_global_view if do_global_view is None else do_global_view:
            views["global_pixel_values"] = np.stack([self._global_view(picture) for picture in pictures])
        return BatchFeature(views, tensor_type=return_tensors)

    def postprocess(self, pixel_values: torch.Tensor) -> list[Image.Image]:
        """Turns the local branch's images back into pictures.

        Args:
            pixel_values: [B, 3, R, R] in [-1, 1]; values outside are clipped.
        """
        pixels = ((pixel_values.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return [Image.fromarray(image) for image in pixels.permute(0, 2, 3, 1).cpu().numpy()]

    def _local_view(self, picture: Image.Image) -> np.ndarray:
        size = (self.local_size, self.local_size)
        if self.local_fit == "stretch":
            square = picture.resize(size, PILImageResampling.BICUBIC)
        else:
            square = ImageOps.fit(picture, size, PILImageResampling.BICUBIC)
        return np.asarray(square, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1

    def _global_view(self, picture: Image.Image) -> np.ndarray:
        resample = PILImageResampling(self.global_resample)
        if self.global_crop:
            picture = _resize_shorter_side(picture, self.global_resize, resample)
        else:
            picture = picture.resize((self.global_resize, self.global_resize), resample)
        left, top = (side - self.global_size for side in picture.size)
        box = (left // 2, top // 2, left // 2 + self.global_size, top // 2 + self.global_size)
        pixels = np.asarray(picture.crop(box), dtype=np.float32) / 255
        mean, std = np.asarray(self.global_mean, np.float32), np.asarray(self.global_std, np.float32)
        return ((pixels - mean) / std).transpose(2, 0, 1)


def as_list(images: Picture | Sequence[Picture]) -> list[Picture]:
    """One picture, a batch with four dimensions, or a sequence of pictures, as a list of pictures."""
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, (np.ndarray, torch.Tensor)):
        return list(images) if images.ndim == 4 else [images]
    return list(images)


def _resize_shorter_side(picture: Image.Image, side: int, resample: PILImageResampling) -> Image.Image:
    """Resizes so that the shorter side has `side` pixels, cropping first what no centre crop would keep.

    A strip of 1 x 40,000 pixels would otherwise be blown up to a picture that no memory holds.
    """
    width, height = picture.size
    shorter, longer = min(width, height), max(width, height)
    keep = shorter * 4
    if longer > keep:
        start = (longer - keep) // 2
        box = (start, 0, start + keep, height) if width > height else (0, start, width, start + keep)
        picture = picture.crop(box)
        width, height = picture.size
    scale = side / shorter
    size = (side, max(side, round(height * scale))) if width <= height else (max(side, round(width * scale)), side)
    return picture.resize(size, resample)


__all__ = ["V2LImageProcessor", "to_rgb"]
