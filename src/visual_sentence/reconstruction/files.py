"""Reconstructions of picture files: what is written for each, and under which name."""

import json
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from ..codebook.steps import replacing
from ..errors import UserError
from ..image_io import open_image
from ..metrics.image_quality import psnr
from .codec import ImageCodec, Reconstruction, reconstruct_pictures
from .drawing import draw_words, side_by_side
from .evaluation import as_batch

ENDINGS = ("reconstruction.png", "tokens.json", "words.png")


@dataclass(frozen=True)
class ResultFiles:
    """Where the results of one picture are written.

    Args:
        picture: Original beside reconstruction, PNG.
        tokens: The tokens, JSON.
        words: The words over the picture, PNG; for V2L models only.
    """

    picture: Path
    tokens: Path
    words: Path


def plan_files(paths: Sequence[Path], folder: str | Path) -> list[ResultFiles]:
    """Names the results of reconstructing pictures, as `name_results` does."""
    return [ResultFiles(*files) for files in name_results(paths, folder, ENDINGS)]


def name_results(paths: Sequence[Path], folder: str | Path, endings: Sequence[str]) -> list[tuple[Path, ...]]:
    """Makes the folder and gives each picture's results a name of their own, so that no input is ever overwritten.

    A picture's results bear its name without the suffix; a second picture of that name gets "-2" behind it, and so
    does one whose results would lie where an input lies. Upper and lower case count as the same, as they do on some
    file systems.

    Args:
        paths: Picture files.
        folder: Where the results are to be written.
        endings: What stands behind the name and a dot, one for each file of a picture.

    Raises:
        UserError: If the folder cannot be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error

    def named(name: str) -> tuple[Path, ...]:
        return tuple(folder / f"{name}.{ending}" for ending in endings)

    inputs = {place for path in paths for place in (_place(path), _folded(path.resolve()))}
    stems = [path.stem for path in paths]
    reserved = {stem.casefold() for stem in stems}
    taken: set[str] = set()
    planned = []
    for stem in stems:
        others = (name for name in (f"{stem}-{number}" for number in count(2)) if name.casefold() not in reserved)
        name = next(
            name
            for name in chain([stem], others)
            if name.casefold() not in taken and not any(_place(file) in inputs for file in named(name))
        )
        taken.add(name.casefold())
        planned.append(named(name))
    return planned


def _place(path: Path) -> str:
    """Where a directory's entry lies, whether or not it is a link to somewhere else."""
    return _folded(path.parent.resolve() / path.name)


def _folded(path: Path) -> str:
    return str(path).casefold()


def unwritable(path: Path, error: OSError) -> UserError:
    """The message for a place that cannot be written."""
    return UserError(f"{path} cannot be written ({error.strerror or error}): choose another folder with --output.")


@contextmanager
def writing(file: Path) -> Generator[Path, None, None]:
    """A place beside a file to write to; the file appears whole when the block ends, or not at all.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        with replacing(file) as aside:
            yield aside
    except OSError as error:
        raise unwritable(file.parent, error) from error


def reconstruct_files(
    codec: ImageCodec, paths: Sequence[Path], files: Sequence[ResultFiles], batch_size: int = 8
) -> Iterator[dict[str, Any]]:
    """Reconstructs picture files and writes the results; each file appears whole or not at all.

    Args:
        codec: What writes and draws.
        paths: Picture files.
        files: Where each one's results go, from `plan_files`.
        batch_size: Pictures a forward pass.

    Yields:
        For each picture: `image`, the files written (`reconstruction`, `tokens`, and `words` or None), `grid` [h, w],
        or [1, T] of a pyramid's T tokens, whose words are not drawn, `distinct_tokens`, and `psnr` in dB (None where
        the pictures are equal).

    Raises:
        UserError: If a file cannot be read or written.
    """
    found = reconstruct_pictures(codec, map(open_image, paths), batch_size, total=len(paths))
    for path, result, places in zip(paths, found, files, strict=True):
        with writing(places.picture) as aside:
            side_by_side(result.original, result.reconstruction).save(aside)
        with writing(places.tokens) as aside:
            aside.write_text(tokens_json(result, str(path), codec.name), encoding="utf-8")
        has_words = result.words is not None and codec.writes_map
        if has_words and result.words is not None:
            with writing(places.words) as aside:
                draw_words(result.original, result.words, result.global_words, path.name).save(aside)
        yield {
            "image": str(path),
            "reconstruction": str(places.picture),
            "tokens": str(places.tokens),
            "words": str(places.words) if has_words else None,
            "grid": [len(result.image_tokens), len(result.image_tokens[0])],
            "distinct_tokens": result.distinct_tokens,
            "psnr": _psnr(result),
        }


def _psnr(result: Reconstruction) -> float | None:
    value = float(psnr(as_batch([result.reconstruction]), as_batch([result.original])))
    return None if math.isinf(value) else value


def tokens_json(result: Reconstruction, image: str, model: str) -> str:
    """A picture's tokens as JSON, one row of the map a line.

    Args:
        result: What was found.
        image: The picture's name.
        model: The model's.
    """
    height, width = len(result.image_tokens), len(result.image_tokens[0])
    fields = {"image": image, "model": model, "grid": [height, width]}
    fields |= {"tokens": result.image_tokens, "words": result.words}
    fields |= {"global_tokens": result.global_tokens, "global_words": result.global_words}
    return "{\n" + ",\n".join(f'"{name}": {_lines(value)}' for name, value in fields.items()) + "\n}\n"


def _lines(value: Any) -> str:
    """A value as JSON; a list of lists one list a line."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in value) + "\n]"
    return json.dumps(value, ensure_ascii=False)
