"""`visual-sentence restore-masked`: masked local words of pictures, filled by a tuned language model."""

import json
from pathlib import Path
from typing import Annotated

import typer

from . import evaluate, options


def restore_masked(
    images: options.Images,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.", show_default=False)],
    model: options.LocalModel = "default",
    adapter: options.Adapter = None,
    llm: options.LanguageModelOption = None,
    global_model: options.GlobalModel = None,
    mask: Annotated[
        Path | None, typer.Option(help="Picture that is white where the pictures are damaged; else masks are random.")
    ] = None,
    mask_ratio: options.MaskRatio = 0.3,
    seed: options.Seed = 0,
    skip_bad: options.SkipBad = False,
    batch_size: options.BatchSize = 8,
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
) -> None:
    """Take local words of pictures away and let a language model with an adapter write them anew."""
    from visual_sentence.image_io import check_images

    checked = check_images(images, skip_bad)
    for problem in checked.problems:
        typer.echo(f"skipped: {problem}", err=True)

    from visual_sentence.masked_restoration.files import restore_files
    from visual_sentence.pipelines.masked_restoration import load_masked_pipeline

    pipeline = load_masked_pipeline(model, adapter, llm, global_model, dtype=dtype, device=device)
    rows = []
    for row in restore_files(
        pipeline, checked.paths, output, mask=mask, mask_ratio=mask_ratio, seed=seed, batch_size=batch_size
    ):
        rows.append(row)
        if not as_json:
            typer.echo(f"{row['image']}: {row['masked_tokens']} of {row['tokens']} tokens restored: {row['restored']}")
    if as_json:
        typer.echo(json.dumps({"model": model, "images": rows, "skipped": checked.problems}, ensure_ascii=False))


@evaluate.app.command("masked-restoration")
def evaluate_masked_restoration(
    data: options.Pictures,
    model: options.LocalModel = "default",
    adapter: options.Adapter = None,
    llm: options.LanguageModelOption = None,
    global_model: options.GlobalModel = None,
    split: options.Split = "train",
    column: options.ImageColumn = None,
    limit: options.Limit = None,
    mask_ratio: options.MaskRatio = 0.3,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = 32,
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
) -> None:
    """How many masked local words a tuned language model finds, beside the untuned one and plain guesses."""
    from visual_sentence.image_io import open_image_source
    from visual_sentence.masked_restoration import evaluate_masked_restoration as measure
    from visual_sentence.pipelines.masked_restoration import load_masked_pipeline

    source = open_image_source(data, split, column)
    pipeline = load_masked_pipeline(model, adapter, llm, global_model, dtype=dtype, device=device)
    result = measure(
        pipeline.codec,
        pipeline.tuned,
        source,
        pipeline.writer.finder,
        ratio=mask_ratio,
        seed=seed,
        limit=limit,
        batch_size=batch_size,
    )
    typer.echo(json.dumps(result, ensure_ascii=False) if as_json else table(result["ways"]))


def table(ways: dict[str, dict]) -> str:
    """The ways of filling masked tokens as a Markdown table."""
    lines = ["| way | masked tokens found | PSNR, dB | SSIM |", "|---|---|---|---|"]
    for name, numbers in ways.items():
        found = "-" if numbers["accuracy"] is None else f"{numbers['accuracy']:.2%}"
        lines.append(f"| {name.replace('_', ' ')} | {found} | {numbers['psnr']:.2f} | {numbers['ssim']:.3f} |")
    return "\n".join(lines)
