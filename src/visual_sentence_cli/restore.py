"""`visual-sentence restore`: pictures degraded and mended again by a frozen language model."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import evaluate, options

Task = Annotated[
    str,
    typer.Argument(metavar="TASK", help="inpainting, outpainting, deblurring, rotation or shift.", show_default=False),
]
Mode = Annotated[
    str,
    typer.Option(help="leak-free (examples are other pictures) or paper (examples are made of the answer itself)."),
]
Examples = Annotated[
    str | None,
    typer.Option(help="Other pictures for mode leak-free, in any form that `evaluate restoration --data` takes."),
]
Variant = Annotated[str, typer.Option(help="How prompts are written: published-code or paper.")]
Condition = Annotated[int, typer.Option("--n", min=1, help="Tokens before a step that are read.")]
Step = Annotated[int, typer.Option("--m", min=1, help="Tokens that are predicted at a time.")]
Count = Annotated[int, typer.Option("--num-examples", min=1, help="Examples in a prompt.")]
Shift = Annotated[float, typer.Option(help="Of the task shift: by which share of the side.")]
PublishedShift = Annotated[
    bool, typer.Option("--published-shift", help="Of the task shift: the published code's, none for square pictures.")
]


def restore(
    task: Task,
    images: options.Images,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.", show_default=False)],
    model: options.LocalModel = "default",
    mode: Mode = "leak-free",
    examples: Examples = None,
    degraded: Annotated[bool, typer.Option("--degraded", help="The pictures are damaged already.")] = False,
    llm: options.LanguageModelOption = None,
    variant: Variant = "published-code",
    n: Condition = 16,
    m: Step = 2,
    num_examples: Count = 10,
    seed: options.Seed = 0,
    shift: Shift = 0.125,
    published_shift: PublishedShift = False,
    skip_bad: options.SkipBad = False,
    batch_size: options.BatchSize = 8,
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
) -> None:
    """Degrade pictures, restore them in context, and write original, degraded and restored side by side."""
    from visual_sentence.image_io import check_images, open_image_source

    checked = check_images(images, skip_bad)
    for problem in checked.problems:
        typer.echo(f"skipped: {problem}", err=True)

    from visual_sentence.restoration import RestorationSetting, load_picture_restorer
    from visual_sentence.restoration.files import plan_restorations, restore_files
    from visual_sentence.restoration.pictures import check_examples

    moved = None if published_shift else shift
    setting = RestorationSetting(task, mode, variant, n, m, num_examples, seed, moved)
    check_examples(setting, examples or (), degraded)
    source = open_image_source(examples) if examples else None
    restorer = load_picture_restorer(model, llm, device, dtype)
    files = plan_restorations(checked.paths, output, task)
    rows = []
    for row in restore_files(restorer, checked.paths, files, setting, source, degraded, batch_size):
        rows.append(row)
        if not as_json:
            typer.echo(f"{row['image']}: {row['changed_tokens']} tokens changed: {row['side_by_side']}")
    if as_json:
        record = {"model": model, "llm": restorer.language_model.reference, **setting.as_dict(), "examples": examples}
        typer.echo(json.dumps({**record, "images": rows, "skipped": checked.problems}, ensure_ascii=False))


@evaluate.app.command("restoration")
def evaluate_restoration(
    task: Annotated[
        str, typer.Option(help="inpainting, outpainting, deblurring, rotation or shift.", show_default=False)
    ],
    data: options.Pictures,
    model: options.LocalModel = "default",
    mode: Mode = "leak-free",
    examples: Annotated[
        str | None, typer.Option(help="Other pictures for mode leak-free; by default those of --data behind --limit.")
    ] = None,
    llm: options.LanguageModelOption = None,
    variant: Variant = "published-code",
    n: Condition = 16,
    m: Step = 2,
    num_examples: Count = 10,
    seed: options.Seed = 0,
    shift: Shift = 0.125,
    published_shift: PublishedShift = False,
    split: options.Split = "train",
    column: options.ImageColumn = None,
    limit: options.Limit = None,
    batch_size: options.BatchSize = 8,
    perceptual: Annotated[str, typer.Option(help="auto, lpips, offline-tower or none.")] = "auto",
    frechet: Annotated[str, typer.Option(help="auto, inception, offline-tower or none.")] = "auto",
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
) -> None:
    """How near restored pictures come to the undamaged ones, beside references that ask no language model."""
    from visual_sentence.image_io import open_image_source
    from visual_sentence.restoration import RestorationSetting, load_picture_restorer
    from visual_sentence.restoration.evaluation import evaluate_restoration

    moved = None if published_shift else shift
    setting = RestorationSetting(task, mode, variant, n, m, num_examples, seed, moved)
    source = open_image_source(data, split, column)
    others = open_image_source(examples, split, column) if examples else None
    restorer = load_picture_restorer(model, llm, device, dtype)
    result = evaluate_restoration(restorer, source, setting, others, limit, batch_size, perceptual, frechet)
    typer.echo(json.dumps(result, ensure_ascii=False) if as_json else table(result))


def table(result: dict[str, Any]) -> str:
    """What was compared as a Markdown table, under a line that says how it came about."""
    rows = {name: value for name, value in result.items() if isinstance(value, dict)}
    names = list(next(iter(rows.values())))
    lines = [
        f"{result['task']}, mode {result['mode']}, n = {result['n']}, m = {result['m']}, seed {result['seed']}, "
        f"{result['pictures']} pictures, {result['seconds_per_image']:.2f} s each",
        "",
        "| | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for row, numbers in rows.items():
        cells = ["-" if numbers[name] is None else f"{numbers[name]:.4g}" for name in names]
        lines.append(f"| {row.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
