"""`visual-sentence classify`: pictures sorted into classes shown by example."""

import json
from pathlib import Path
from typing import Annotated

import typer

from . import options


def classify(
    images: options.Images,
    support: Annotated[
        Path, typer.Option(help="Folder with one folder of example pictures per class.", show_default=False)
    ],
    model: options.Model = "offline",
    llm: options.LanguageModelOption = None,
    words: options.Words = None,
    scoring: options.Scoring = options.BEST_SCORING,
    prompt: options.PromptStyle = "plain",
    induction: options.Induction = True,
    repetitions: options.Repetitions = 0,
    skip_bad: options.SkipBad = False,
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
) -> None:
    """Classify pictures by a frozen language model from a few examples of each class."""
    from visual_sentence.image_io import check_images, list_class_folders

    examples = list_class_folders(support)
    checked_examples = check_images([path for paths in examples.values() for path in paths], skip_bad)
    checked = check_images(images, skip_bad)
    for problem in checked_examples.problems + checked.problems:
        typer.echo(f"skipped: {problem}", err=True)
    good = set(checked_examples.paths)
    shown = {name: [str(path) for path in paths if path in good] for name, paths in examples.items()}

    from visual_sentence.pipelines import load_few_shot_pipeline

    pipeline = load_few_shot_pipeline(model, llm, dtype=dtype, device=device)
    answers = pipeline(
        [str(path) for path in checked.paths],
        support=shown,
        num_words=words,
        scoring=scoring,
        prompt_style=prompt,
        induction=induction,
        repetitions=repetitions,
        batch_size=16,
    )
    rows = [{"image": str(path), "answers": answer} for path, answer in zip(checked.paths, answers, strict=True)]
    if as_json:
        typer.echo(json.dumps({"model": model, "images": rows, "skipped": checked.problems}, ensure_ascii=False))
        return
    for row in rows:
        typer.echo(f"{row['image']}: {summary(row['answers'])}")


def summary(answers: list[dict]) -> str:
    """The best label with its share, then the others; or that no class was named."""
    if answers[0]["score"] == 0:
        return "(the generated answer names no class)"
    best, *others = [f"{answer['label']} {answer['score']:.0%}" for answer in answers]
    return f"{best}   ({', '.join(others)})" if others else best
