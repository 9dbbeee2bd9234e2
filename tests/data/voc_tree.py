"""Made-up Pascal VOC folders: pictures of noise with the masks that a test wants."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def mask(size: tuple[int, int], *parts: tuple[int, int, int, int, int]) -> np.ndarray:
    """[H, W] uint8 of background with rectangles (class, top, left, bottom, right)."""
    found = np.zeros(size[::-1], np.uint8)
    for index, top, left, bottom, right in parts:
        found[top:bottom, left:right] = index
    return found


def write_voc(
    root: Path, masks: Mapping[str, np.ndarray], annotations: str = "SegmentationClass", palette: bool = True
) -> Path:
    """Writes VOCdevkit/VOC2012 with a picture, a mask and a line of the val list for each name, and gives its path."""
    voc = root / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", annotations, "ImageSets/Segmentation"):
        (voc / name).mkdir(parents=True, exist_ok=True)
    for place, (name, values) in enumerate(masks.items()):
        noise = np.random.default_rng(place).integers(0, 256, (*values.shape, 3), dtype=np.uint8)
        Image.fromarray(noise).save(voc / "JPEGImages" / f"{name}.jpg")
        picture = Image.fromarray(values)
        if palette:
            picture = Image.frombytes("P", picture.size, values.tobytes())
            picture.putpalette([channel for index in range(256) for channel in (index, 255 - index, 7)])
        picture.save(voc / annotations / f"{name}.png")
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("".join(f"{name}\n" for name in masks))
    return voc


def write_list(splits: Path, fold: int, *lines: str) -> Path:
    """Writes a fold's val list, with line ends of both kinds, and gives the folder of the lists."""
    (splits / "val").mkdir(parents=True, exist_ok=True)
    (splits / "val" / f"fold{fold}.txt").write_bytes("\r\n".join(lines).encode() + b"\n")
    return splits
