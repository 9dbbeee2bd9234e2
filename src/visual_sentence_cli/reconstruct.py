"""`visual-sentence reconstruct`: pictures to tokens and back."""

import json
from pathlib import Path
from typing import Annotated

import typer

from . import evaluate, options

Tokens = Annotated[
    int | None,
    typer.Option(min=1, help="Only the first so many, of a model that writes from coarse to fine (SPAE)."),
]


def reconstruct(
    images: options.Images,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.", show_default=False)],
    model: options.Codec = "default",
    tokens: Tokens = None,
    skip_bad: options.SkipBad = False,
    batch_size: options.BatchSize = 8,
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.CodecDtype = "float32",
) -> None:
    """Write pictures as tokens and draw them again: side by side, tokens as JSON, words over the picture (V2L)."""
    from visual_sentence.image_io import check_images

    checked = check_images(images, skip_bad)
    for problem in checked.problems:
        typer.echo(f"skipped: {problem}", err=True)

    from visual_sentence.reconstruction import load_image_codec, plan_files, reconstruct_files

    codec = load_image_codec(model, device, dtype, tokens)
    files = plan_files(checked.paths, output)
    rows = []
    for row in reconstruct_files(codec, checked.paths, files, batch_size):
        rows.append(row)
        if not as_json:
            typer.echo(summary(row))
    if as_json:
        typer.echo(json.dumps({"model": model, "images": rows, "skipped": checked.problems}, ensure_ascii=False))


def summary(row: dict) -> str:
    """One line for a picture: how it is written, how near the reconstruction is, and where it lies."""
    height, width = row["grid"]
    near = "equal" if row["psnr"] is None else f"PSNR {row['psnr']:.2f} dB"
    tokens = f"{height} x {width} tokens, {row['distinct_tokens']} different"
    return f"{row['image']}: {tokens}, {near}: {row['reconstruction']}"


@evaluate.app.command("reconstruction")
def evaluate_reconstruction(
    data: options.Pictures,
    model: options.Codec = "default",
    tokens: Tokens = None,
    split: options.Split = "train",
    column: options.ImageColumn = None,
    limit: options.Limit = None,
    batch_size: options.BatchSize = 16,
    perceptual: Annotated[str, typer.Option(help="auto, lpips, offline-tower or none.")] = "auto",
    frechet: Annotated[str, typer.Option(help="auto, inception, offline-tower or none.")] = "auto",
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.CodecDtype = "float32",
) -> None:
    """How near reconstructions come to their pictures, and how much of the codebook they use."""
    from visual_sentence.image_io import open_image_source
    from visual_sentence.reconstruction import evaluate_reconstruction as measure
    from visual_sentence.reconstruction import load_image_codec

    source = open_image_source(data, split, column)
    codec = load_image_codec(model, device, dtype, tokens)
    result = measure(codec, source, limit=limit, batch_size=batch_size, perceptual=perceptual, frechet=frechet)
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    typer.echo(evaluate.measures(result))
