"""`visual-sentence evaluate`: how good it is, as one JSON object or a table."""

import json
from typing import Annotated, Any

import typer

from . import options

app = typer.Typer(help="Measure a model on data.", no_args_is_help=True)


@app.command("few-shot")
def few_shot(
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
    from visual_sentence.few_shot import ClassificationPrompt
    from visual_sentence.few_shot.evaluation import FewShotSetting, evaluate_few_shot, load_episodes
    from visual_sentence.language import load_language_model
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
    language_model = load_language_model(reference, dtype=dtype, device=device)
    results = evaluate_few_shot(finder, language_model, episodes, setting, classes_removed)
    described = {**setting.as_dict(), "data": data, "dtype": str(language_model.model.dtype).removeprefix("torch.")}
    if as_json:
        typer.echo(json.dumps({"model": model, "llm": reference, "setting": described, "results": results}))
        return
    typer.echo(table(results))


@app.command("reconstruction")
def reconstruction(
    data: Annotated[
        str,
        typer.Option(
            help="Pictures: Parquet files, a folder, a saved data set or a Hub id, perhaps with [start:stop:step].",
            show_default=False,
        ),
    ],
    model: options.Codec,
    split: Annotated[str, typer.Option(help="Split of a Hub data set.")] = "train",
    column: Annotated[str | None, typer.Option(help="Column of the pictures.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")] = None,
    batch_size: options.BatchSize = 16,
    perceptual: Annotated[str, typer.Option(help="auto, lpips, offline-tower or none.")] = "auto",
    frechet: Annotated[str, typer.Option(help="auto, inception, offline-tower or none.")] = "auto",
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.CodecDtype = "float32",
) -> None:
    """How near reconstructions come to their pictures, and how much of the codebook they use."""
    from visual_sentence.image_io import open_image_source
    from visual_sentence.reconstruction import evaluate_reconstruction, load_image_codec

    source = open_image_source(data, split, column)
    codec = load_image_codec(model, device, dtype)
    result = evaluate_reconstruction(
        codec, source, limit=limit, batch_size=batch_size, perceptual=perceptual, frechet=frechet
    )
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    typer.echo(measures(result))


def measures(result: dict[str, Any]) -> str:
    """One measure a line, as a Markdown table."""
    cells = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in result.items()}
    return "\n".join(["| measure | value |", "|---|---|", *(f"| {name} | {cell} |" for name, cell in cells.items())])


def table(results: list[dict[str, Any]]) -> str:
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
