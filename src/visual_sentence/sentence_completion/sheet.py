"""A sheet of answers: pairs, query, answer and truth in rows, the worst answer among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..data.shards import written_aside
from ..data.task_base import Pair
from ..errors import UserError
from .scoring import RANKING, Score

INK, QUIET, ACCENT, PAPER = "#1c2430", "#6b7686", "#c2410c", "#fbfaf7"
CELL, GAP, HEADER, CAPTION, TEXT = 128, 8, 26, 22, 13
# Queries that are shown whatever came of them; the worst of all stands below.
SHOWN = 5


@dataclass(frozen=True)
class SheetRow:
    """One query.

    Args:
        place: Its number.
        pictures: Pairs, query, answer and truth.
        score: How near the answer is.
    """

    place: int
    pictures: tuple[Image.Image, ...]
    score: Score


class SheetRows:
    """Keeps the first queries and the worst one as they come; of the others nothing is held.

    Args:
        pairs: Pairs before each query.
        task: The task's name, for the heading.
    """

    def __init__(self, pairs: int, task: str) -> None:
        self.pairs, self.task = pairs, task
        self.first: dict[int, SheetRow] = {}
        self.worst: SheetRow | None = None

    def add(self, place: int, pairs: Sequence[Pair], query: Pair, answer: Image.Image, score: Score) -> None:
        """Adds a query; of equally bad answers the one of the lowest number is the worst."""
        is_worst = self.worst is None or (score.rank, place) < (self.worst.score.rank, self.worst.place)
        if place >= SHOWN and not is_worst:
            return
        solved = [picture for pair in pairs for picture in (pair.input, pair.target)]
        row = SheetRow(place, (*solved, query.input, answer, query.target), score)
        if place < SHOWN:
            self.first[place] = row
        if is_worst:
            self.worst = row

    def draw(self) -> Image.Image:
        """The sheet."""
        rows = [self.first[place] for place in sorted(self.first)]
        if self.worst is not None:
            rows.append(self.worst)
        columns = [f"{kind} {place}" for place in range(1, self.pairs + 1) for kind in ("input", "target")]
        columns += ["query", "answer", "truth"]
        last = len(rows) - 1
        captions = [(self._caption(row, number == last), number == last) for number, row in enumerate(rows)]
        return draw_rows(columns, [(row.pictures, *caption) for row, caption in zip(rows, captions, strict=True)])

    def _caption(self, row: SheetRow, is_worst: bool) -> str:
        name = next(name for name in RANKING if name in row.score.values)
        value = f"{name} {row.score.values[name]:.3f}" + (" dB" if name == "psnr" else "")
        return f"{self.task}, query {row.place + 1}: {value}" + (", the worst of all" if is_worst else "")

    def save(self, file: str | Path) -> None:
        """Writes the sheet, whole or not at all.

        Raises:
            UserError: If it cannot be written.
        """
        with written_aside(Path(file)) as aside:
            self.draw().save(aside, format="PNG")


def draw_rows(columns: Sequence[str], rows: Sequence[tuple[Sequence[Image.Image], str, bool]]) -> Image.Image:
    """Pictures in rows, each row with a caption beneath.

    Args:
        columns: Their headings.
        rows: Pictures, a caption, and whether it is set off.
    """
    step, width = CELL + CAPTION + GAP, GAP + len(columns) * (CELL + GAP)
    canvas = Image.new("RGB", (width, HEADER + len(rows) * step), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(TEXT)
    for column, name in enumerate(columns):
        draw.text((GAP + column * (CELL + GAP), HEADER / 2), name, fill=QUIET, font=font, anchor="lm")
    for number, (pictures, caption, is_set_off) in enumerate(rows):
        top = HEADER + number * step
        for column, picture in enumerate(pictures):
            canvas.paste(_fitted(picture), (GAP + column * (CELL + GAP), top))
        ink = ACCENT if is_set_off else INK
        draw.text((GAP, top + CELL + CAPTION / 2), caption, fill=ink, font=font, anchor="lm")
    return canvas


def check_place(file: str | Path) -> None:
    """Makes the folder of a sheet, before anything is measured for it.

    Raises:
        UserError: If it cannot be made, or the place is a folder itself.
    """
    file = Path(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error}): choose another place for the sheet.") from error
    if file.is_dir():
        raise UserError(f"{file} is a folder, where the sheet is to be a file: add a name such as sheet.png.")


def _fitted(picture: Image.Image) -> Image.Image:
    """A picture stretched to a cell; a small one pixel by pixel."""
    small = max(picture.size) <= CELL
    way = Image.Resampling.NEAREST if small else Image.Resampling.BOX
    return picture.convert("RGB").resize((CELL, CELL), way)
