"""`visual-sentence codebook`: building global and local codebooks."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options

app = typer.Typer(help="Codebooks: the words that pictures are written in.", no_args_is_help=True)


@app.command()
def build(
    images: Annotated[
        list[str],
        typer.Option(
            help="Pictures of the filter: a folder, Parquet files, a saved data set or a Hub id, each perhaps with "
            "[start:stop:step] behind it; may be given several times.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder of the result.", show_default=False)],
    llm: Annotated[str, typer.Option(help="Language model: 'offline', a folder or a Hub id.")] = "offline",
    encoder: Annotated[
        str,
        typer.Option(help="Joint encoder: 'offline', a folder, a Hub id, or open_clip:ARCH@TAG-OR-FILE."),
    ] = "offline",
    recipe: Annotated[str, typer.Option(help="offline, paper or published-code; the options below change it.")] = (
        "offline"
    ),
    ngrams: Annotated[
        int | None, typer.Option(min=1, max=3, help="1: subwords only; 2: and bigrams; 3: and trigrams.")
    ] = None,
    continuations: Annotated[
        int | None, typer.Option(min=1, help="M, best continuations taken for each n-gram.")
    ] = None,
    templates: Annotated[
        str | None, typer.Option(help="imagenet-80, plain, photo, or one of your own with {}.")
    ] = None,
    cleanup: Annotated[bool | None, typer.Option(help="Keep whole content words in one spelling only.")] = None,
    center: Annotated[bool | None, typer.Option(help="Subtract the mean word and the mean image.")] = None,
    top_per_image: Annotated[int | None, typer.Option(min=1, help="Nearest words noted for each image.")] = None,
    min_count: Annotated[
        int | None, typer.Option(min=1, help="Images that must have noted a word (1: paper, 101: published code).")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a Hub data set.")] = "train",
    column: Annotated[str | None, typer.Option(help="Column of the pictures.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per forward pass.")] = 64,
    half: Annotated[bool, typer.Option("--half", help="Store the embeddings in 16 bits.")] = False,
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
) -> None:
    """Build a global codebook (V2L Tokenizer, section 3.2) and the V2L model that uses it; a rerun resumes."""
    from dataclasses import replace

    import torch

    from visual_sentence.codebook import CodebookRecipe, build_codebook
    from visual_sentence.encoders import load_joint_encoder
    from visual_sentence.hub import save_v2l_model
    from visual_sentence.image_io import open_image_source
    from visual_sentence.language import choose_device, load_language_model, load_text_tokenizer

    changes: dict[str, Any] = {
        "ngrams": ngrams,
        "continuations": continuations,
        "templates": templates if templates is None or "{}" not in templates else (templates,),
        "cleanup": cleanup,
        "center": center,
        "top_per_image": top_per_image,
        "min_count": min_count,
    }
    chosen = replace(
        CodebookRecipe.preset(recipe), **{name: value for name, value in changes.items() if value is not None}
    )
    first, *others = [open_image_source(reference, split, column) for reference in images]
    source = sum(others, start=first)
    joint_encoder = load_joint_encoder(encoder, choose_device(device))
    if chosen.ngrams > 1:
        language_model = load_language_model(llm, dtype=dtype, device=device)
        model, tokenizer = language_model.model, language_model.tokenizer
    else:  # the vocabulary alone needs no forward pass
        model, tokenizer = None, load_text_tokenizer(llm)
    codebook = build_codebook(
        chosen,
        language_model=model,
        tokenizer=tokenizer,
        encoder=joint_encoder,
        images=source,
        output_dir=output,
        llm_name=llm,
        images_name=source.name,
        batch_size=batch_size,
        dtype=torch.float16 if half else torch.float32,
        device=joint_encoder.device,
    )
    save_v2l_model(joint_encoder, codebook, output / "model")
    if as_json:
        record = {"output": str(output), "model": str(output / "model"), "words": len(codebook)}
        record |= {"dimensions": codebook.embeddings.shape[1], "provenance": codebook.provenance}
        typer.echo(json.dumps(record, ensure_ascii=False))
        return
    typer.echo(f"{len(codebook)} words: {output}; the V2L model that uses them: {output / 'model'}")


@app.command()
def local(
    output: Annotated[Path, typer.Option(help="Folder of the result.", show_default=False)],
    kind: Annotated[
        str,
        typer.Option(help="text: each entry's text, embedded by the joint encoder; llm: the model's input embeddings."),
    ] = "text",
    llm: Annotated[str, typer.Option(help="Language model: 'offline', a folder or a Hub id.")] = "offline",
    encoder: Annotated[
        str,
        typer.Option(help="Of kind text: 'offline', a folder, a Hub id, or open_clip:ARCH@TAG-OR-FILE."),
    ] = "offline",
    templates: Annotated[
        str, typer.Option(help="Of kind text: imagenet-80, plain, photo, or one of your own with {}.")
    ] = "plain",
    half: Annotated[bool, typer.Option("--half", help="Store the embeddings in 16 bits.")] = False,
    as_json: options.Json = False,
    device: Annotated[
        str | None, typer.Option(help="Of the joint encoder: 'cpu', 'cuda', ...; the first accelerator by default.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Of kind llm, what the model is read in: float32, bfloat16, float16.")
    ] = "float32",
) -> None:
    """Build a local codebook, a vector for every entry of the language model's vocabulary; a rerun resumes."""
    import torch

    from visual_sentence.codebook.local import build_local_codebook

    codebook = build_local_codebook(
        kind,
        llm,
        encoder,
        folder=output,
        templates=(templates,) if "{}" in templates else templates,
        device=device,
        dtype=torch.float16 if half else torch.float32,
        llm_dtype=dtype,
    )
    padding = codebook.provenance["counts"].get("embedding_rows", len(codebook)) - len(codebook)
    if as_json:
        record = {"output": str(output), "entries": len(codebook), "dimensions": codebook.embeddings.shape[1]}
        record |= {"padding": padding, "provenance": codebook.provenance}
        typer.echo(json.dumps(record, ensure_ascii=False))
        return
    note = f" (the model's other {padding} rows are padding)" if padding else ""
    typer.echo(f"{len(codebook)} entries of {codebook.embeddings.shape[1]} dimensions{note}: {output}")
