"""Original, degraded and restored side by side, each with its name beneath."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

INK, PAPER = "#1c2430", "#fbfaf7"
GAP, CAPTION, TEXT = 8, 20, 12
# Smaller pictures are enlarged by whole numbers until a caption fits beneath.
SMALLEST_SIDE = 128


def draw_row(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Draws pictures in a row; small ones are enlarged pixel by pixel.

    Args:
        panels: Captions and pictures, all of one size.
    """
    width, height = panels[0][1].size
    scale = max(1, -(-SMALLEST_SIDE // width))
    width, height = width * scale, height * scale
    canvas = Image.new("RGB", (len(panels) * (width + GAP) + GAP, GAP + height + CAPTION), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(TEXT)
    for index, (caption, picture) in enumerate(panels):
        left = GAP + index * (width + GAP)
        canvas.paste(picture.convert("RGB").resize((width, height), Image.Resampling.NEAREST), (left, GAP))
        draw.text((left, GAP + height + CAPTION / 2), caption, fill=INK, font=font, anchor="lm")
    return canvas
