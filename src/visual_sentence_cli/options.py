"""Options that several commands share, described once."""

from pathlib import Path
from typing import Annotated

import typer

# The library's own, which is not imported here: it would load torch before it must.
BEST_SCORING = "domain-calibrated"

Model = Annotated[str, typer.Option(help="V2L model: 'offline', a folder or a Hub id.")]
LanguageModelOption = Annotated[
    str | None,
    typer.Option("--llm", help="Language model: 'offline', a folder or a Hub id; by default the model's own."),
]
Words = Annotated[int | None, typer.Option("--words", min=1, help="Words per image (the paper's 5 or 21).")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Name and leave out unreadable pictures.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Images = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures.", show_default=False)]
Device = Annotated[str | None, typer.Option(help="'cpu', 'cuda', ...; the first accelerator by default.")]
Dtype = Annotated[str, typer.Option(help="Of the language model: auto, float32, bfloat16 or float16.")]
Scoring = Annotated[
    str,
    typer.Option(
        help="How the answer is read: domain-calibrated, calibrated, likelihood, trie, exact-match, prefix-match or "
        "position-mask."
    ),
]
PromptStyle = Annotated[str, typer.Option("--prompt", help="plain, paper or published-code.")]
Induction = Annotated[bool, typer.Option("--induction/--no-induction", help="Whether the prompt names the classes.")]
Repetitions = Annotated[int, typer.Option(min=0, help="How many more times the examples are shown (0, 1, 3, 5).")]
Codec = Annotated[
    str,
    typer.Option("--model", help="V2L model with a local half, or VQGAN: a folder or a Hub id.", show_default=False),
]
CodecDtype = Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Pictures per forward pass.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
