"""Restored picture files: what is written for each, and under which name."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..image_io import open_image
from ..reconstruction.drawing import draw_row
from ..reconstruction.files import name_results, writing

ENDING = "masked-restored.png"
PARTS = (("original", "original"), ("masked", "masked"), ("restored", "image"))


def restore_files(
    restore: Callable[..., Iterable[dict[str, Any]]],
    paths: Sequence[Path],
    folder: Path,
    mask: Path | None = None,
    **parameters: Any,
) -> Iterator[dict[str, Any]]:
    """Restores picture files and writes original, masked and restored picture side by side.

    Args:
        restore: The pipeline.
        paths: Picture files.
        folder: Where the results are written; is made.
        mask: A picture that is white where all of them are damaged; random masks without it.
        **parameters: Of the pipeline's call.

    Yields:
        `image, restored` (the file written)`, masked_tokens, tokens` for each picture, in order.

    Raises:
        UserError: If a file cannot be read or written.
    """
    files = name_results(paths, folder, (ENDING,))
    shape = None if mask is None else open_image(mask)
    inputs = (
        {"image": open_image(path)} if shape is None else {"image": open_image(path), "mask": shape} for path in paths
    )
    for path, (file,), found in zip(paths, files, restore(inputs, **parameters), strict=True):
        with writing(file) as aside:
            draw_row([(caption, found[part]) for caption, part in PARTS]).save(aside)
        yield {
            "image": str(path),
            "restored": str(file),
            "masked_tokens": found["masked_tokens"],
            "tokens": sum(len(row) for row in found["known"]),
        }
