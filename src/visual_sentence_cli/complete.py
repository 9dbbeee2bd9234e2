"""`visual-sentence complete`: a task shown by solved pairs of pictures, done on new ones."""

import json
from pathlib import Path
from typing import Annotated

import typer

from . import options

Paths = list[Path]


def complete(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of the answers, or a .png for a single one.", show_default=False),
    ],
    query: Annotated[Paths | None, typer.Option("--query", help="Picture to answer, or a folder; repeat it.")] = None,
    pair_input: Annotated[
        Paths | None, typer.Option("--input", help="Input of a solved pair; one --target for each, in order.")
    ] = None,
    pair_target: Annotated[Paths | None, typer.Option("--target", help="Target of a solved pair.")] = None,
    pairs_from: Annotated[
        Path | None,
        typer.Option(help="Folder of pairs: inputs/ and targets/, or files NAME_img and NAME_label side by side."),
    ] = None,
    frame: Annotated[
        Paths | None, typer.Option("--frame", help="Instead of pairs: a picture to go on from, or a folder; repeat it.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Pictures to add to the frames.")] = 1,
    model: Annotated[str, typer.Option(help="SimLVM: a folder, a Hub id, or 'default', which ships.")] = "default",
    read_as: Annotated[
        str, typer.Option("--as", help="What answers are: auto (as the targets look), image, mask or labels.")
    ] = "auto",
    palette: Annotated[
        str | None, typer.Option(help="Colours of the label maps' classes, RRGGBB with commas; else the targets'.")
    ] = None,
    partial: Annotated[Path | None, typer.Option(help="The answer, of which some rows are known.")] = None,
    known_rows: Annotated[str | None, typer.Option(help="Which rows of its tokens, such as 0-3.")] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Draw so many answers and keep the likeliest; else no draw.")
    ] = None,
    average: Annotated[
        bool, typer.Option("--average", help="Take the mean of what the model expects, over all samples.")
    ] = False,
    temperature: Annotated[float | None, typer.Option(help="Of the draw: divides the logits.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Of the draw: only the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Of the draw: only the likeliest of this probability.")] = None,
    seed: options.Seed = 0,
    sheet: Annotated[Path | None, typer.Option(help="Draw pairs, queries and answers into this file, PNG.")] = None,
    batch_size: options.BatchSize = 16,
    as_json: options.Json = False,
    device: options.Device = None,
) -> None:
    """Do on pictures what solved pairs show, or go on with frames."""
    from visual_sentence.image_io import check_images
    from visual_sentence.sentence_completion.completer import SentenceCompleter
    from visual_sentence.sentence_completion.generation import sampling
    from visual_sentence.sentence_completion.picture_files import (
        CompletionFiles,
        complete_files,
        expand,
        pair_files,
        parse_palette,
        parse_rows,
    )

    asked = CompletionFiles(
        pairs=pair_files(pair_input or [], pair_target or [], pairs_from),
        queries=expand(query or []),
        frames=expand(frame or []),
        num_images=images,
        output=read_as,
        palette=parse_palette(palette) if palette else None,
        partial=partial,
        known_rows=parse_rows(known_rows) if known_rows else (),
        generation=sampling(samples, temperature, top_k, top_p, seed, average),
    )
    check_images(asked.all_files, skip_bad=None)  # a sentence is whole or none
    completer = SentenceCompleter.load(model, device)
    rows = []
    for row in complete_files(completer, asked, output, sheet, batch_size):
        rows.append(row)
        if not as_json:
            typer.echo(f"{row['query']}: {row['kind']}, log-likelihood {row['log_likelihood']:.1f}: {row['answer']}")
    if as_json:
        record = {"model": completer.name, "pairs": [list(map(str, pair)) for pair in asked.pairs]}
        typer.echo(json.dumps({**record, "generation": asked.generation, "answers": rows}, ensure_ascii=False))
