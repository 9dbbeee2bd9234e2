"""`visual-sentence compact`: a smaller copy of a model."""

import json
from pathlib import Path
from typing import Annotated

import typer

from . import options


def compact(
    model: Annotated[str, typer.Argument(help="A V2L model or a SimLVM: a folder or a Hub id.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder of the copy.", show_default=False)],
    data: Annotated[
        str | None,
        typer.Option(help="Pictures of which the share of equal tokens is told: Parquet files, a folder or a Hub id."),
    ] = None,
    split: options.Split = "train",
    column: options.ImageColumn = None,
    limit: options.Limit = None,
    batch_size: options.BatchSize = 16,
    as_json: options.Json = False,
) -> None:
    """Write a copy of about half the size for publishing: 16 bits, and a trained projector put into its codebook."""
    from visual_sentence.conversion import compact_model
    from visual_sentence.image_io import open_image_source
    from visual_sentence.reconstruction import load_image_codec, share_of_equal_tokens

    source = None if data is None else open_image_source(data, split, column)
    report = compact_model(model, output)
    if source is not None:
        first, second = load_image_codec(model, "cpu"), load_image_codec(str(output), "cpu")
        report["equal_tokens"] = share_of_equal_tokens(first, second, source, limit, batch_size)
    if as_json:
        typer.echo(json.dumps(report))
        return
    before, after = (report[name] / 1e6 for name in ("bytes_before", "bytes_after"))
    typer.echo(f"{before:.1f} MB became {after:.1f} MB: {output}")
    if "equal_tokens" in report:
        typer.echo(f"{100 * report['equal_tokens']:.3f} % of the tokens are the same")
