"""A contact sheet: frames in rows, each with a few lines below it."""

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..captioning.drawing import ACCENT, INK, PAPER, QUIET, wrap

TILE, GAP, MARGIN, HEADER, COLUMNS = 240, 16, 32, 72, 4
TITLE_SIZE, TEXT_SIZE, LINE_HEIGHT, TEXT_LINES = 22, 14, 1.3, 3
# More than this are hard to look at and make a picture of hundreds of megabytes.
MOST_TILES = 60


class ContactSheet:
    """Collects frames, scaled down, and draws them.

    Of more than `MOST_TILES` frames those that are evenly spread over all are shown, and the title says so.

    Args:
        count: How many frames will be added.
        title: Written above.
    """

    def __init__(self, count: int, title: str):
        shown = min(count, MOST_TILES)
        self._places = {place * count // shown for place in range(shown)}
        self._title = title if shown == count else f"{title} ({shown} of them here)"
        self._added = 0
        self._tiles: list[tuple[Image.Image, list[tuple[str, str]]]] = []

    def add(self, picture: Image.Image, caption: str, text: str = "") -> None:
        """Adds the next frame.

        Args:
            picture: The frame.
            caption: Written below it in one line.
            text: Written below that in at most `TEXT_LINES` lines.
        """
        if self._added in self._places:
            lines = [(line, QUIET) for line in wrap(caption, TEXT_SIZE, TILE, 1)]
            lines += [(line, ACCENT) for line in wrap(text, TEXT_SIZE, TILE, TEXT_LINES) if line]
            self._tiles.append((ImageOps.contain(picture, (TILE, TILE)), lines))
        self._added += 1

    def draw(self) -> Image.Image:
        """The sheet, RGB."""
        columns = min(COLUMNS, max(1, len(self._tiles)))
        tall = max((tile.height for tile, _ in self._tiles), default=0)
        line_height = TEXT_SIZE * LINE_HEIGHT
        step = tall + int(max((len(lines) for _, lines in self._tiles), default=0) * line_height) + GAP + 8
        title, font = ImageFont.load_default(TITLE_SIZE), ImageFont.load_default(TEXT_SIZE)
        width = max(columns * (TILE + GAP) - GAP, int(title.getlength(self._title)) + 1) + 2 * MARGIN
        rows = -(-len(self._tiles) // columns)
        sheet = Image.new("RGB", (width, HEADER + rows * step + MARGIN - GAP), PAPER)
        draw = ImageDraw.Draw(sheet)
        draw.text((MARGIN, 24), self._title, font=title, fill=INK)
        for place, (tile, lines) in enumerate(self._tiles):
            left, top = MARGIN + place % columns * (TILE + GAP), HEADER + place // columns * step
            sheet.paste(tile, (left + (TILE - tile.width) // 2, top + tall - tile.height))
            for number, (line, color) in enumerate(lines):
                draw.text((left, top + tall + 6 + number * line_height), line, font=font, fill=color)
        return sheet
