"""Sentences of videos as token rows of the layout "sequence", for `data.shards.write_shards`."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from datasets import Image as ImageFeature
from PIL import Image

from ..data.token_rows import SEQUENCE, TokenRow
from ..errors import UserError
from ..image_io import PICTURE_ERRORS, load_table
from ..modeling import VQGANImageProcessor, VQGANModel
from .sentences import TABLE

TASK = "video"
NEEDED = ("image", "video", "sentence", "index")


def find_tables(reference: str | Path) -> list[Path]:
    """The tables of a folder that `write_sentences` wrote, or of the folders in it, in order of name; or one file.

    Raises:
        UserError: If there is none.
    """
    path = Path(reference).expanduser()
    if path.is_file():
        return [path]
    tables = sorted(path.rglob(TABLE)) if path.is_dir() else []
    if not tables:
        found = f"holds no {TABLE}" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {found}: name what `visual-sentence sentence VIDEO --output FOLDER` wrote.")
    return tables


def sentence_frames(table: str | Path) -> Iterator[tuple[str, int, list[Image.Image]]]:
    """The sentences of a table, one at a time.

    Args:
        table: A file that `write_sentences` wrote.

    Yields:
        The video's name, the sentence's number, and its frames (RGB) in order.

    Raises:
        UserError: If the table is another one, or a picture in it is damaged.
    """
    data: Any = load_table(str(table))
    missing = [name for name in NEEDED if name not in data.column_names]
    if missing:
        raise UserError(
            f"{table} has no column {', '.join(missing)}, so it holds no sentences of a video: name a table that "
            "`visual-sentence sentence` wrote."
        )
    keys = zip(data["video"], data["sentence"], range(len(data)), strict=True)
    pictures = data.select_columns(["image"]).cast_column("image", ImageFeature(mode="RGB"))
    for (video, sentence), places in groupby(keys, key=lambda key: key[:2]):
        try:
            frames = [pictures[place]["image"] for *_, place in places]
        except PICTURE_ERRORS as error:
            raise UserError(f"{table}: a picture of {video} is damaged ({error}): write the table again.") from error
        yield video, sentence, frames


def sequence_rows(
    references: Sequence[str | Path],
    model: VQGANModel,
    image_processor: VQGANImageProcessor | None = None,
    batch_size: int = 16,
) -> Iterator[TokenRow]:
    """Tokenizes sentences of videos; a sentence becomes a row, whose source is its video.

    Args:
        references: As `find_tables`.
        model: The VQGAN; of a SimLVM its `vqgan`.
        image_processor: Makes the model's view of a frame; by default the whole frame stretched to a square, as LVM
            does.
        batch_size: Frames a forward pass.

    Yields:
        Rows with task "video", numbered from 0.

    Raises:
        UserError: As `find_tables` and `sentence_frames`.
    """
    size = model.config.image_size
    image_processor = image_processor or VQGANImageProcessor(local_size=size, local_fit="stretch")
    model, number = model.eval(), 0
    for table in [table for reference in references for table in find_tables(reference)]:
        for video, _, frames in sentence_frames(table):
            tokens = []
            for start in range(0, len(frames), batch_size):
                views = image_processor(frames[start : start + batch_size], return_tensors="pt")
                with torch.no_grad():
                    found = model.encode(views["pixel_values"].to(model.device)).image_tokens
                tokens.append(found.reshape(-1).cpu())
            yield TokenRow(torch.cat(tokens).numpy(), TASK, "", video, SEQUENCE, number)
            number += 1
