"""Writes the pictures or the pairs of tasks as one Parquet file.

    python scripts/build_pairs.py --data segmentation:shapes[:4000] denoising:shapes[:4000] --output pictures.parquet \\
        --columns pictures
    python scripts/build_pairs.py --data "segmentation:camvid/train.parquet?foreground=3&draws=4" --augment \\
        --output pairs.parquet --columns pairs --size 64

"pictures" is what scripts/train_vqgan.py --data reads; "pairs" can be looked at, and opened again as data of the task
"pairs". See docs/visual_sentences_data.md.
"""

import argparse
import sys
from pathlib import Path

from visual_sentence import UserError
from visual_sentence.data.pair_files import write_pair_file


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--data", nargs="+", required=True, metavar="TASK:DATA", help="tasks and their data")
    found.add_argument("--output", required=True, type=Path, help="the Parquet file to write")
    found.add_argument("--columns", choices=("pairs", "pictures"), default="pairs", help="one row for each")
    found.add_argument("--size", type=int, default=64, help="side in pixels; pictures are stretched to the square")
    found.add_argument("--limit", type=int, help="pairs of each task at most; all by default")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--augment", action=argparse.BooleanOptionalAction, default=False, help="flip and crop first")
    return found


def main() -> int:
    """Write the file."""
    options = parser().parse_args()
    try:
        report = write_pair_file(
            options.data, options.output, options.columns, options.size, options.limit, options.seed, options.augment
        )
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{report}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
