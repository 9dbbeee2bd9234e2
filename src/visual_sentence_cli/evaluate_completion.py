"""`visual-sentence evaluate completion`: how good a model completes visual sentences."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options


def evaluate_completion(
    data: Annotated[
        str,
        typer.Option(
            # the bracket is escaped: it would be taken for a style and not be shown
            help="Queries: Parquet files, a folder or 'shapes', perhaps with \\[start:stop:step]; or the task with it, "
            "'TASK:DATA?option=value'.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str, typer.Option(help="SimLVM or SegGPT: a folder or a Hub id; 'default' ships with the package.")
    ] = "default",
    task: Annotated[
        str | None, typer.Option(help="segmentation, denoising, brightness, ...: what the pairs show.")
    ] = None,
    foreground: Annotated[
        str | None, typer.Option(help="Of segmentation: the class of the label map that is the mask, or 'any'.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Of segmentation: classes that have a colour each, such as 1,2,5.")
    ] = None,
    task_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A further option of the task, such as sigma=25.")
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(help="Numbers of pairs before a query, such as 1,3; those of 1,3,5 that fit by default."),
    ] = None,
    pairs_from: Annotated[
        str | None, typer.Option(help="Where pairs are drawn from; by default other pictures of --data.")
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="The most queries.")] = 100,
    prompt_sets: Annotated[int, typer.Option(min=1, help="Different sets of pairs for every query.")] = 3,
    size: Annotated[
        int | None, typer.Option(min=11, help="Side that pictures are stretched to before the task; else their own.")
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(min=1, help="Draws whose mean is the answer; 1: the likeliest tokens; else the model's own way."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, help="Of --candidates; 0: the likeliest tokens, drawn of what is expected at each place."),
    ] = None,
    instances: Annotated[
        bool, typer.Option("--instances", help="Compare the connected parts of masks too (AJI, for nuclei).")
    ] = False,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = 16,
    sheet: Annotated[Path | None, typer.Option(help="Picture of some queries and the worst answer, PNG.")] = None,
    as_json: options.Json = False,
    device: options.Device = None,
) -> None:
    """How near completed sentences come to the true answers, beside references that ask no language model."""
    from visual_sentence.sentence_completion import (
        CompletionSetting,
        evaluate_completion,
        parse_request,
        read_counts,
        read_options,
    )
    from visual_sentence.sentence_completion.generation import mean_answer
    from visual_sentence.sentence_completion.seggpt import load_completer

    setting = CompletionSetting(
        None if pairs is None else read_counts(pairs), queries, prompt_sets, seed, size, instances
    )
    given = {"foreground": foreground, "classes": classes, **read_options(task_option or ())}
    chosen = {name: value for name, value in given.items() if value is not None}
    asked, shown = parse_request(data, task, chosen, pairs_from)
    completer = load_completer(model, device)
    generation = mean_answer(candidates, temperature, seed)
    measured = evaluate_completion(completer, asked, setting, shown, batch_size, generation, sheet)
    result = {"model": model, **measured}
    typer.echo(json.dumps(result, ensure_ascii=False) if as_json else table(result))


def table(result: dict[str, Any]) -> str:
    """Answers and references by numbers of pairs as a Markdown table, under a line that says what was asked."""
    setting, results = result["setting"], result["results"]
    names = [name for name in ("dice", "iou", "aji", "psnr", "ssim") if results[0]["ci95"][name] or results[0][name]]
    lines = [
        f"{result['task']} on {setting['data']}: {setting['queries']} queries of {setting['sources']} pictures, "
        f"{setting['prompt_sets']} prompt sets, seed {setting['seed']}",
        "",
        f"| pairs | | {' | '.join(names)} |",
        "|---" * (len(names) + 2) + "|",
    ]
    for row in results:
        for name, numbers in {"answer": row, **row["references"]}.items():
            cells = [_cell(numbers, measure) for measure in names]
            lines.append(f"| {row['pairs']} | {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(numbers: dict[str, Any], measure: str) -> str:
    """A mean with its interval."""
    value, interval = numbers[measure], numbers["ci95"][measure]
    if value is None:
        return "equal" if numbers["identical"] else "-"
    digits = 2 if measure == "psnr" else 3
    found = f"{value:.{digits}f}"
    return found if interval is None else f"{found} ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"
