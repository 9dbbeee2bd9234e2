"""`visual-sentence evaluate pascal-5i`: how good a model segments classes that its pairs show."""

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options


class Fold(str, Enum):
    """Which classes are asked for."""

    zero, one, two, three, every = "0", "1", "2", "3", "all"


def evaluate_pascal5i(
    data: Annotated[Path, typer.Option(help="The folder that has VOCdevkit/VOC2012.", show_default=False)],
    model: Annotated[
        str, typer.Option(help="SimLVM or SegGPT: a folder or a Hub id; 'default' ships with the package.")
    ] = "default",
    splits: Annotated[
        Path | None,
        typer.Option(help="The folds' lists, val/fold0.txt to val/fold3.txt; VOC's own val list by default."),
    ] = None,
    fold: Annotated[Fold, typer.Option(help="Classes 1-5, 6-10, 11-15 or 16-20, or all folds.")] = Fold.every,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs before a query.")] = 1,
    queries: Annotated[int, typer.Option(min=1, help="Queries of a fold.")] = 1000,
    size: Annotated[
        int | None, typer.Option(min=11, help="Side that pictures are stretched to first; else their own.")
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(min=1, help="Draws whose mean is the answer; 1: the likeliest tokens; else the model's own way."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, help="Of --candidates; 0: the likeliest tokens, drawn of what is expected at each place."),
    ] = None,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = 16,
    as_json: options.Json = False,
    device: options.Device = None,
) -> None:
    """Foreground IoU on Pascal-5i as visual_prompting asks it, and the mIoU of few-shot segmentation."""
    from visual_sentence.sentence_completion.generation import mean_answer
    from visual_sentence.sentence_completion.pascal5i import evaluate_pascal5i, mean_over_folds
    from visual_sentence.sentence_completion.seggpt import load_completer

    generation = mean_answer(candidates, temperature, seed)
    completer = load_completer(model, device)
    folds = range(4) if fold is Fold.every else (int(fold.value),)
    found = [
        evaluate_pascal5i(completer, data, number, pairs, queries, seed, splits, size, batch_size, generation)
        for number in folds
    ]
    result = {"model": model, **mean_over_folds(found)}
    typer.echo(json.dumps(result, ensure_ascii=False) if as_json else table(result))


def table(result: dict[str, Any]) -> str:
    """Answers and references by folds as a Markdown table, under a line that says what was asked."""
    folds = result["folds"]
    setting = folds[0]["setting"]
    lines = [
        f"Pascal-5i, {folds[0]['n']} queries of each fold, pairs: {setting['pairs']}, seed {setting['seed']}, masks of "
        f"{setting['masks']}",
        "",
        "| fold | | iou | miou |",
        "|---|---|---|---|",
    ]
    for row in folds:
        for name, numbers in {"answer": row, **row["references"]}.items():
            cells = [_cell(numbers[measure], numbers["ci95"][measure]) for measure in ("iou", "miou")]
            lines.append(f"| {row['fold']} | {name.replace('_', ' ')} | {' | '.join(cells)} |")
    if len(folds) > 1:
        lines.append(f"| mean | answer | {result['iou']:.3f} | {result['miou']:.3f} |")
    return "\n".join(lines)


def _cell(value: float, interval: list[float] | None) -> str:
    """A mean with its interval."""
    return f"{value:.3f}" if interval is None else f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
