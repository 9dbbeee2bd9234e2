"""`visual-sentence demo`: photographs to words and back, a question, restorations, visual sentences."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from . import options


def demo(
    output: Annotated[Path, typer.Option(help="Folder of the pictures and the page.")] = Path("demo"),
    model: options.Model = "offline",
    simlvm: Annotated[str, typer.Option(help="SimLVM: a folder, a Hub id, or 'default', which ships.")] = "default",
    local_model: Annotated[
        str, typer.Option(help="V2L model with a local half: a folder, a Hub id, or 'default', which ships.")
    ] = "default",
    llm: Annotated[str, typer.Option(help="Language model: 'offline', a folder or a Hub id.")] = "offline",
    as_json: options.Json = False,
) -> None:
    """Turn photographs into words and back, ask a language model about them, complete visual sentences; draw it all."""
    from visual_sentence.demo import QUESTION, SHOWN, run_demo

    found = run_demo(output, model, llm, simlvm, local_model)
    result = found.photographs
    if as_json:
        record = {"output": str(output), "page": str(output / "index.html"), "question": QUESTION}
        record |= {"answer": result.answer, **asdict(found)}
        typer.echo(json.dumps(record, ensure_ascii=False))
        return
    for name in SHOWN:
        typer.echo(f"{name}: {', '.join(result.words[name])}")
    shares = ", ".join(f"{label} {share:.0%}" for label, share in result.probabilities.items())
    typer.echo(f"{QUESTION}: {result.answer} ({shares})")
    for one in filter(None, (found.reconstruction, *found.restorations, *found.sentences)):
        typer.echo(f"{one.title.lower()}: {one.summary()}")
    typer.echo(f"pictures and page: {output / 'index.html'}")
