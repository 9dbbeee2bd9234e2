"""What the page takes: sizes and counts of uploads, and how they are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..errors import UserError
from ..image_io import PICTURE_ERRORS, open_image

LONGEST_TEXT = 200


@dataclass(frozen=True)
class Limits:
    """The most that one visitor can ask for.

    Args:
        megabytes: Of one file that is uploaded.
        megapixels: Of one picture, which takes three bytes a pixel once it is decoded.
        pictures: In one gallery.

    Raises:
        UserError: If one of them is not positive.
    """

    megabytes: float = 20
    megapixels: float = 25
    pictures: int = 12

    def __post_init__(self) -> None:
        for name in ("megabytes", "megapixels", "pictures"):
            if getattr(self, name) <= 0:
                raise UserError(f"The page would take no uploads with {name} = {getattr(self, name)}: give 1 or more.")

    def open(self, path: str | None, what: str) -> Image.Image:
        """Reads an uploaded picture.

        Args:
            path: The file; None where nothing was uploaded.
            what: What it is on the page, for the message.

        Returns:
            8-bit RGB, see `open_image`.

        Raises:
            UserError: If there is none, it is no picture, or it is too large.
        """
        if path is None:
            raise UserError(f"{what} is missing: upload a picture, paste one, or take one of the examples.")
        try:
            with Image.open(path) as header:
                width, height = header.size
        except PICTURE_ERRORS as error:
            name = Path(path).name
            raise UserError(f"{what} ({name}) is no picture that can be read: upload a JPEG, PNG or WebP.") from error
        if width * height > self.megapixels * 1e6:
            raise UserError(
                f"{what} has {width} x {height} pixels, more than the {self.megapixels:g} megapixels that this page "
                "takes: scale it down first."
            )
        try:
            return open_image(path)
        except UserError as error:  # whose message begins with a path of this machine
            raise UserError(f"{what} ({Path(path).name}) is damaged or cut off: export it again.") from error

    def open_all(self, gallery: Sequence[tuple] | None, what: str) -> list[Image.Image]:
        """Reads the pictures of a gallery.

        Args:
            gallery: (file, caption) of each; None where it is empty.
            what: As for `open`.

        Raises:
            UserError: As `open`, or if there are too many.
        """
        rows = gallery or []
        if len(rows) > self.pictures:
            raise UserError(f"{what} holds {len(rows)} pictures, this page takes {self.pictures}: remove some.")
        return [self.open(row[0], f"{what}, picture {place}") for place, row in enumerate(rows, 1)]


def check_text(text: str | None, what: str) -> str:
    """A text of the page in one line.

    Raises:
        UserError: If it is empty or too long.
    """
    line = " ".join((text or "").split())
    if not line:
        raise UserError(f"{what} is empty: write something.")
    if len(line) > LONGEST_TEXT:
        raise UserError(f"{what} has {len(line)} characters, this page takes {LONGEST_TEXT}: shorten it.")
    return line


__all__ = ["Limits", "check_text"]
