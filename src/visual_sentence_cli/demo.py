"""`visual-sentence demo`: photographs to words, and one question answered."""

from pathlib import Path
from typing import Annotated

import typer

from . import options


def demo(
    output: Annotated[Path, typer.Option(help="Folder of the picture and the page.")] = Path("demo"),
    model: options.Model = "offline",
    llm: Annotated[str, typer.Option(help="Language model: 'offline', a folder or a Hub id.")] = "offline",
) -> None:
    """Turn photographs into words, ask a language model about a new one, and draw the result."""
    from visual_sentence.demo import QUESTION, SHOWN, run_demo

    result = run_demo(output, model, llm)
    for name in SHOWN:
        typer.echo(f"{name}: {', '.join(result.words[name])}")
    shares = ", ".join(f"{label} {share:.0%}" for label, share in result.probabilities.items())
    typer.echo(f"{QUESTION}: {result.answer} ({shares})")
    typer.echo(f"picture: {output / 'words.png'}\npage: {output / 'index.html'}")
