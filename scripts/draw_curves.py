"""Draws what a training run logged, as one SVG picture: a panel for each value, over steps.

    python scripts/draw_curves.py out/vqgan/log.jsonl --values reconstruction codebook_usage --output vqgan.svg
    python scripts/draw_curves.py out/simlvm/log.jsonl --values loss accuracy --output simlvm.svg

log.jsonl is what scripts/train_*.py leave in their output folder. See docs/training.md.
"""

import argparse
import json
import sys
from html import escape
from pathlib import Path

from visual_sentence import UserError

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 240, 62, 16, 34, 30
INK, LINE, CURVE = "#1f2430", "#d8d4cc", "#c2410c"
TICKS = 4


def read_log(path: Path) -> list[dict]:
    """The lines of a log.

    Raises:
        UserError: If it cannot be read, or is none.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no log of a training run ({error}): give its log.jsonl.") from error
    if not rows or not all(isinstance(row, dict) and "step" in row for row in rows):
        raise UserError(f"{path} has no lines with a step: give the log.jsonl of a training run.")
    return rows


def draw(rows: list[dict], values: list[str], path: Path) -> str:
    """The picture's text.

    Raises:
        UserError: If a value was not logged.
    """
    panels = []
    for number, name in enumerate(values):
        points = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), (int, float))]
        if not points:
            known = sorted({key for row in rows for key, value in row.items() if isinstance(value, (int, float))})
            raise UserError(f"{path} has no value {name!r}: it has {', '.join(known)}.")
        panels.append(f'<g transform="translate({number * WIDTH} 0)">{_panel(name, points)}</g>')
    width = WIDTH * len(values)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">\n'
        f'<rect width="{width}" height="{HEIGHT}" fill="white"/>\n' + "\n".join(panels) + "\n</svg>\n"
    )


def _panel(name: str, points: list[tuple[int, float]]) -> str:
    steps, found = zip(*points, strict=True)
    last, low, high = max(steps), min(found), max(found)
    span = (high - low) or 1.0

    def across(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / (last or 1)

    def down(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / span)

    parts = [f'<text x="{LEFT}" y="20" font-weight="bold">{escape(name)}</text>']
    for tick in range(TICKS + 1):
        value, step = low + span * tick / TICKS, last * tick / TICKS
        y = down(value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{LINE}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        parts.append(f'<text x="{across(step):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{step:.0f}</text>')
    line = " ".join(f"{across(step):.1f},{down(value):.1f}" for step, value in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{CURVE}" stroke-width="1.5"/>')
    return "".join(parts)


def main() -> int:
    """Draw the picture."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("log", type=Path, help="log.jsonl of a run")
    found.add_argument("--values", nargs="+", default=["loss"], metavar="NAME", help="what to draw, a panel each")
    found.add_argument("--output", required=True, type=Path, help="the SVG file to write")
    options = found.parse_args()
    try:
        text = draw(read_log(options.log), options.values, options.log)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"error: {options.output} cannot be written ({error.strerror}): give another place.\n")
        return 2
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
