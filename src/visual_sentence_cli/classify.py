"""`visual-sentence classify`: pictures sorted into classes shown by example."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import evaluate, options


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


@evaluate.app.command("few-shot")
def evaluate_few_shot(
    data: Annotated[
        str, typer.Option(help="Episodes: Parquet files, a saved data set or a Hub id.", show_default=False)
    ],
    model: options.Model = "offline",
    llm: options.LanguageModelOption = None,
    words: options.Words = 5,
    scoring: options.Scoring = options.BEST_SCORING,
    prompt: options.PromptStyle = "plain",
    induction: options.Induction = True,
    repetitions: options.Repetitions = 0,
    shuffle_words: Annotated[
        bool, typer.Option("--shuffle-words", help="Control: give every picture another one's words.")
    ] = False,
    classes_removed: Annotated[
        bool,
        typer.Option(
            "--classes-removed/--no-classes-removed",
            help="Measure once more without the episodes' classes among the image tower's labels.",
        ),
    ] = True,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many episodes of each (way, shot).")] = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
) -> None:
    """N-way K-shot accuracy on fixed episodes, beside nearest class mean and chance."""
    from visual_sentence.completion import load_completion_model
    from visual_sentence.few_shot import ClassificationPrompt
    from visual_sentence.few_shot.evaluation import FewShotSetting, evaluate_few_shot, load_episodes
    from visual_sentence.references import OFFLINE
    from visual_sentence.words import WordFinder

    setting = FewShotSetting(
        num_words=words,
        scoring=scoring,
        prompt=ClassificationPrompt(style=prompt, induction=induction, repetitions=repetitions),
        shuffle_words=shuffle_words,
        seed=seed,
    )
    episodes = load_episodes(data, limit)
    finder = WordFinder.load(model, device=device)
    reference = llm or finder.model.config.language_model or OFFLINE
    language_model = load_completion_model(reference, dtype=dtype, device=device)
    results = evaluate_few_shot(finder, language_model, episodes, setting, classes_removed)
    described = {**setting.as_dict(), "data": data, "dtype": language_model.dtype}
    if as_json:
        typer.echo(json.dumps({"model": model, "llm": language_model.name, "setting": described, "results": results}))
        return
    typer.echo(episodes_table(results))


def episodes_table(results: list[dict[str, Any]]) -> str:
    """The results as a Markdown table, in per cent."""
    lines = [
        "| way | shot | n | accuracy | classes removed | nearest class mean | chance | s/episode |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results:
        removed = "-"
        if "accuracy_classes_removed" in row:
            removed = f"{row['accuracy_classes_removed']:.1%} ± {row['ci95_classes_removed']:.1%}"
        lines.append(
            f"| {row['way']} | {row['shot']} | {row['n']} | {row['accuracy']:.1%} ± {row['ci95']:.1%} | {removed} | "
            f"{row['nearest_class_mean']:.1%} | {row['chance']:.0%} | {row['seconds_per_episode']:.2f} |"
        )
    return "\n".join(lines)
