"""Photographs drawn from local words alone, and damaged ones mended by a language model that reads these words."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from ..language import LanguageModel
from ..metrics.image_quality import psnr
from ..reconstruction import ImageCodec
from ..reconstruction.evaluation import as_batch, mean_colors
from ..restoration import TASKS, PictureRestorer, RestorationSetting, view_of
from ..sentence_completion import draw_rows
from .results import SheetResult

# What is mended, and the others that show the language model how.
DAMAGED = ("chelsea.png", "coffee.png")
RECONSTRUCTION = "reconstruction.png"


def show_reconstruction(output: Path, photographs: dict[str, Image.Image], codec: ImageCodec) -> SheetResult:
    """Writes photographs as local words and draws them again.

    Args:
        output: The folder of the sheet.
        photographs: File name -> picture.
        codec: A V2L model with a local half.
    """
    found = codec.reconstruct(list(photographs.values()))
    originals, drawn = ([getattr(one, side) for one in found] for side in ("original", "reconstruction"))
    values, pixels = _psnr(drawn, originals), as_batch(originals)
    near = ", ".join(f"{value:.1f}" for value in values)
    rows = [(originals, "photographs", False), (drawn, f"drawn from their words alone: {near} dB", False)]
    draw_rows(list(photographs), rows).save(output / RECONSTRUCTION)
    note = f"Each photograph is {' x '.join(map(str, _grid(codec)))} words of the language model's vocabulary."
    references = {"its mean colour": float(psnr(mean_colors(pixels), pixels).mean())}
    return SheetResult("Reconstruction", RECONSTRUCTION, "psnr", _mean(values), references, len(found), note)


def show_restorations(
    output: Path, photographs: dict[str, Image.Image], codec: ImageCodec, language_model: LanguageModel
) -> tuple[SheetResult, ...]:
    """Damages two photographs in five ways and has the language model mend them, shown how on others.

    Args:
        output: The folder of the sheets.
        photographs: File name -> picture; those that are not damaged are the examples.
        codec: A V2L model with a local half.
        language_model: The one that its words are of.

    Raises:
        UserError: If the two do not belong together.
    """
    restorer = PictureRestorer(codec, language_model)
    views = {name: view_of(picture, codec.resolution) for name, picture in photographs.items()}
    damaged = [views[name] for name in DAMAGED]
    examples = [view for name, view in views.items() if name not in DAMAGED]
    whole = codec.decode(codec.encode([view.picture for view in damaged]))
    results = []
    for task in TASKS:
        found = restorer.restore(damaged, RestorationSetting(task), examples)
        originals = found.known_originals
        values, degraded = (_psnr(pictures, originals) for pictures in (found.restored, found.degraded))
        columns = ("photograph", "damaged", "restored", "all words known")
        shown = zip(originals, found.degraded, found.restored, whole, strict=True)
        rows = [(four, f"restored: {value:.1f} dB", False) for four, value in zip(shown, values, strict=True)]
        picture = f"restoration-{task}.png"
        draw_rows(columns, rows).save(output / picture)
        references = {"the damaged picture itself": _mean(degraded)}
        results.append(SheetResult(task.capitalize(), picture, "psnr", _mean(values), references, len(damaged)))
    return tuple(results)


def _psnr(pictures: Sequence[Image.Image], references: Sequence[Image.Image]) -> list[float]:
    """Of each picture, in dB."""
    return psnr(as_batch(pictures), as_batch(references)).tolist()


def _mean(values: Sequence[float]) -> float:
    return float(torch.tensor(values).mean())


def _grid(codec: ImageCodec) -> tuple[int, int]:
    side = codec.resolution // codec.model.config.downsampling_factor
    return side, side
