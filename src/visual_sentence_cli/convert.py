"""`visual-sentence convert`: published checkpoints as model folders."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from . import options


def convert(
    source: Annotated[
        str,
        typer.Argument(help="The checkpoint, its folder, or a Hub id (not v2l, taming).", show_default=False),
    ],
    output: Annotated[Path, typer.Option(help="New folder of the result.", show_default=False)],
    kind: Annotated[str | None, typer.Option("--from", help="v2l, taming, muse, amused, lvm or delvm.")] = None,
    target: Annotated[
        str | None, typer.Option("--to", help="amused: write a VQGAN of ours as a VQModel folder of diffusers.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The source's configuration, where it does not lie beside the weights.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side of the images in pixels; the source's by default.")
    ] = None,
    local_only: Annotated[bool, typer.Option("--local-only", help="v2l: leave the image tower out.")] = False,
    encoder: Annotated[
        str | None,
        typer.Option(help="v2l: image tower of a joint encoder: a folder, a Hub id, or open_clip:ARCH@TAG-OR-FILE."),
    ] = None,
    global_words: Annotated[
        Path | None, typer.Option(help="v2l: words of the global codebook, a JSON list or .npy of texts.")
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(help="v2l: language model whose words the tokens are: 'offline', a folder or a Hub id."),
    ] = None,
    vqgan: Annotated[
        str | None,
        typer.Option(
            help="lvm, delvm: the VQGAN of their tokens: a folder of ours, openMUSE's or diffusers', or a Hub id."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Bring a published model over: V2L Tokenizer; VQGAN of taming, openMUSE or aMUSEd; LVM, DeLVM with their VQGAN."""
    from visual_sentence.conversion import Options, convert_checkpoint, export_checkpoint

    given = Options(config, image_size, local_only, encoder, global_words, llm, vqgan)
    if (kind is None) == (target is None):
        raise typer.BadParameter("give either --from (v2l, taming, muse, amused, lvm, delvm) or --to (amused)")
    if target is not None:
        if given != Options():
            raise typer.BadParameter("the other options say how to read a source, and have no meaning with --to")
        report = export_checkpoint(source, target, output)
        done = f"VQModel of {source}: {output}"
    else:
        assert kind is not None  # as one of the two is there
        report = convert_checkpoint(source, kind, output, given)
        done = f"{len(report['used'])} tensors of {report['source']}: {output}"
    if as_json:
        typer.echo(json.dumps({"output": str(output), **report}, ensure_ascii=False, default=str))  # as it is written
        return
    for reason, count in Counter(report.get("left_out", {}).values()).items():
        typer.echo(f"left out: {count} tensors ({reason})")
    for note in report["notes"]:
        typer.echo(f"note: {note}")
    typer.echo(done)
