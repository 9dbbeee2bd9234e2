"""Restorations of picture files: what is written for each, and under which name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..image_io import ImageSource, open_image
from ..progress import progress_bar
from ..reconstruction.drawing import draw_row
from ..reconstruction.files import name_results, writing
from ..words import batched
from .degradation import View, view_of
from .pictures import PictureRestorer, RestorationSetting, fingerprint

# Pictures of a data set that examples are drawn from.
EXAMPLE_POOL = 100


@dataclass(frozen=True)
class RestorationFiles:
    """Where the results of one picture are written.

    Args:
        row: Original, degraded and restored side by side, PNG.
        restored: The restored picture alone, PNG.
    """

    row: Path
    restored: Path


def plan_restorations(paths: Sequence[Path], folder: str | Path, task: str) -> list[RestorationFiles]:
    """Makes the folder and names each picture's results; no input is ever overwritten.

    Args:
        paths: Picture files.
        folder: Where the results are to be written.
        task: Part of the names, NAME.TASK.png and NAME.TASK.restored.png; NAME as in `name_results`.

    Raises:
        UserError: If the folder cannot be made.
    """
    return [RestorationFiles(*files) for files in name_results(paths, folder, (f"{task}.png", f"{task}.restored.png"))]


def example_views(source: ImageSource, side: int, excluded: set[str], count: int = EXAMPLE_POOL) -> list[View]:
    """The first pictures of a data set that examples are drawn from.

    Args:
        source: Pictures.
        side: R, pixels of a view's side.
        excluded: Fingerprints of pictures that are to be restored, which are left out.
        count: The most pictures.

    Raises:
        UserError: If no other picture is left.
    """
    views = []
    for picture in source:
        view = view_of(picture, side)
        if fingerprint(view) not in excluded:
            views.append(view)
        if len(views) == count:
            break
    if not views:
        raise UserError(
            f"{source.name} holds no picture that is not to be restored itself, so there are no examples: give others."
        )
    return views


def restore_files(
    restorer: PictureRestorer,
    paths: Sequence[Path],
    files: Sequence[RestorationFiles],
    setting: RestorationSetting,
    examples: ImageSource | None = None,
    already_degraded: bool = False,
    batch_size: int = 8,
) -> Iterator[dict[str, Any]]:
    """Restores picture files and writes the results; each file appears whole or not at all.

    Args:
        restorer: Both models.
        paths: Picture files.
        files: Where each one's results go, from `plan_restorations`.
        setting: What is done.
        examples: Mode "leak-free": where examples are drawn from; pictures that are to be restored are left out.
        already_degraded: Whether the pictures are damaged already.
        batch_size: Pictures that are restored together.

    Yields:
        For each picture: `image`, the files written (`side_by_side`, `restored`), `grid` [h, w], and `changed_tokens`,
        how many of the tokens that the language model was given are others now.

    Raises:
        UserError: If a file cannot be read or written, or as `PictureRestorer.restore`.
    """
    side, shown = restorer.codec.resolution, []
    if examples is not None and setting.mode == "leak-free":
        shown = example_views(examples, side, {fingerprint(view_of(open_image(path), side)) for path in paths})
    with progress_bar("restoring", len(paths)) as bar:
        for batch in batched(zip(paths, files, strict=True), batch_size):
            views = [view_of(open_image(path), side) for path, _ in batch]
            found = restorer.restore(views, setting, shown, already_degraded)
            changed = (found.degraded_tokens != found.restored_tokens).flatten(1).sum(1).tolist()
            for index, (path, places) in enumerate(batch):
                panels = [("degraded", found.degraded[index]), ("restored", found.restored[index])]
                if found.originals is not None:
                    panels.insert(0, ("original", found.originals[index]))
                with writing(places.row) as aside:
                    draw_row(panels).save(aside)
                with writing(places.restored) as aside:
                    found.restored[index].save(aside)
                yield {
                    "image": str(path),
                    "side_by_side": str(places.row),
                    "restored": str(places.restored),
                    "grid": list(restorer.grid),
                    "changed_tokens": changed[index],
                }
            bar.advance(len(batch))
