"""`visual-sentence describe`: the words of pictures."""

import json

import typer

from . import options


def describe(
    images: options.Images,
    model: options.Model = "offline",
    words: options.Words = None,
    skip_bad: options.SkipBad = False,
    as_json: options.Json = False,
    device: options.Device = None,
) -> None:
    """Print the words that a V2L model finds for each picture, nearest first."""
    from visual_sentence.image_io import check_images
    from visual_sentence.words import WordFinder

    checked = check_images(images, skip_bad)
    for problem in checked.problems:
        typer.echo(f"skipped: {problem}", err=True)
    finder = WordFinder.load(model, device=device)
    found = list(finder.find_in_files(checked.paths, words))
    if as_json:
        rows = [
            {"image": str(path), "words": item.words, "token_ids": item.token_ids, "distances": item.distances}
            for path, item in zip(checked.paths, found, strict=True)
        ]
        typer.echo(json.dumps({"model": model, "images": rows, "skipped": checked.problems}, ensure_ascii=False))
        return
    for path, item in zip(checked.paths, found, strict=True):
        typer.echo(f"{path}: {', '.join(item.words)}")
