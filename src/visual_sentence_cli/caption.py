"""`visual-sentence caption`: sentences about pictures, in the manner of captioned pictures."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from . import evaluate, options


def caption(
    images: options.Images,
    examples: options.CaptionExamples,
    num_examples: options.NumExamples = 10,
    choose: options.Choose = "random",
    seed: options.Seed = 0,
    words: options.ManyWords = 21,
    prompt: options.SentencePrompt = "plain",
    model: options.Model = "offline",
    llm: options.LanguageModelOption = None,
    max_new_tokens: options.MaxNewTokens = None,
    split: options.Split = "train",
    image_column: options.ImageColumn = None,
    caption_column: options.CaptionColumn = None,
    draw: Annotated[Path | None, typer.Option(help="Draw the pictures with their captions into this file.")] = None,
    skip_bad: options.SkipBad = False,
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
) -> None:
    """Caption pictures by a frozen language model that is shown captioned pictures."""
    from visual_sentence.image_io import check_images

    checked = check_images(images, skip_bad)

    from visual_sentence.captioning import Columns, InContextSetting, read_captions
    from visual_sentence.captioning import caption as write
    from visual_sentence.captioning.pictures import load_models

    setting = InContextSetting(words, num_examples, choose, seed, prompt, max_new_tokens)
    rows = read_captions(examples, split, Columns(image=image_column, caption=caption_column), skip_bad)
    finder, language_model = load_models(model, llm, dtype, device)
    captions = write(checked.paths, rows, finder, language_model, setting, skip_bad=skip_bad)
    skipped = checked.problems + rows.problems
    for problem in skipped:
        typer.echo(f"skipped: {problem}", err=True)
    if draw is not None:
        from visual_sentence.captioning.drawing import save_captions

        save_captions(checked.paths, captions, draw)
    found = [{"image": str(path), **asdict(found)} for path, found in zip(checked.paths, captions, strict=True)]
    if as_json:
        record = {
            "model": model,
            "llm": language_model.name,
            "setting": setting.as_dict(),
            "images": found,
            "skipped": skipped,
        }
        typer.echo(json.dumps(record, ensure_ascii=False))
        return
    for row in found:
        copied = "   (a copy of an example)" if row["copied"] else ""
        typer.echo(f"{row['image']}: {row['text'] or '(nothing was written)'}{copied}")


@evaluate.app.command("captioning")
def evaluate_captioning(
    data: Annotated[
        str,
        typer.Option(help="Pictures with reference captions, in any form that --examples takes.", show_default=False),
    ],
    examples: options.CaptionExamples,
    num_examples: options.NumExamples = 10,
    choose: options.Choose = "random",
    seed: options.Seed = 0,
    words: options.ManyWords = 21,
    prompt: options.SentencePrompt = "plain",
    model: options.Model = "offline",
    llm: options.LanguageModelOption = None,
    max_new_tokens: options.MaxNewTokens = None,
    shuffle_words: options.ShuffleWords = False,
    split: Annotated[str, typer.Option(help="Split of --data that is measured.")] = "train",
    examples_split: Annotated[str, typer.Option(help="Split of --examples.")] = "train",
    image_column: options.ImageColumn = None,
    caption_column: options.CaptionColumn = None,
    skip_bad: options.SkipBad = False,
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
) -> None:
    """BLEU, ROUGE and CIDEr of captions written in context, beside the nearest picture's caption."""
    from visual_sentence.captioning import Columns, InContextSetting, read_captions
    from visual_sentence.captioning.evaluation import evaluate_captioning as measure
    from visual_sentence.captioning.pictures import load_models

    setting = InContextSetting(words, num_examples, choose, seed, prompt, max_new_tokens)
    columns = Columns(image=image_column, caption=caption_column)
    rows = read_captions(data, split, columns, skip_bad)
    shown = read_captions(examples, examples_split, columns, skip_bad)
    finder, language_model = load_models(model, llm, dtype, device)
    found = measure(finder, language_model, rows, shown, setting, shuffle_words, skip_bad)
    described = {**setting.as_dict(), "data": data, "examples": examples, "shuffle_words": shuffle_words}
    described["dtype"] = language_model.dtype
    if as_json:
        record = {"model": model, "llm": language_model.name, "setting": described, **found.as_dict()}
        typer.echo(json.dumps(record, ensure_ascii=False))
        return
    typer.echo(evaluate.beside(found.results, "nearest_caption"))
