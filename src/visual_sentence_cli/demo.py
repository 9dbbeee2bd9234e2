"""`visual-sentence demo`: photographs to words, one question answered, visual sentences completed."""

from pathlib import Path
from typing import Annotated

import typer

from . import options


def demo(
    output: Annotated[Path, typer.Option(help="Folder of the pictures and the page.")] = Path("demo"),
    model: options.Model = "offline",
    simlvm: Annotated[str, typer.Option(help="SimLVM: a folder, a Hub id, or 'default', which ships.")] = "default",
    llm: Annotated[str, typer.Option(help="Language model: 'offline', a folder or a Hub id.")] = "offline",
) -> None:
    """Turn photographs into words, ask a language model about a new one, complete visual sentences; draw it all."""
    from visual_sentence.demo import QUESTION, SHOWN, run_demo

    found = run_demo(output, model, llm, simlvm)
    result = found.photographs
    for name in SHOWN:
        typer.echo(f"{name}: {', '.join(result.words[name])}")
    shares = ", ".join(f"{label} {share:.0%}" for label, share in result.probabilities.items())
    typer.echo(f"{QUESTION}: {result.answer} ({shares})")
    for one in found.sentences:
        best = one.shown(one.references[one.best_reference])
        typer.echo(f"{one.title.lower()} by example: {one.shown(one.value)}; without a model at best {best}")
    typer.echo(f"pictures and page: {output / 'index.html'}")
