"""`visual-sentence app`: a page in the browser on which everything can be tried by hand."""

import json
from typing import Annotated

import typer

from . import options


def app(
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in, without a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")] = 7860,
    model: options.Model = "offline",
    local_model: Annotated[
        str, typer.Option(help="V2L model with a local half: a folder, a Hub id, or 'default', which ships.")
    ] = "default",
    simlvm: Annotated[str, typer.Option(help="SimLVM: a folder, a Hub id, or 'default', which ships.")] = "default",
    llm: Annotated[
        str, typer.Option(help="Language model: 'offline', a folder, a Hub id or a server (http://host:port/v1).")
    ] = "offline",
    max_upload: Annotated[float, typer.Option(min=0.1, help="Megabytes of one uploaded file, at most.")] = 20,
    as_json: options.Json = False,
    device: options.Device = None,
) -> None:
    """Serve a page with words, few-shot, captions, restoration, visual sentences and video, until Ctrl-C."""
    from importlib.util import find_spec

    from visual_sentence.errors import UserError

    if find_spec("gradio") is None:
        raise UserError("The page is made with Gradio, which is not installed: run pip install 'visual-sentence[app]'.")
    from visual_sentence.app import Limits, References, launch_app

    def say(address: str) -> None:
        typer.echo(json.dumps({"url": address}) if as_json else f"{address} (Ctrl-C ends it)")

    references = References(model, local_model, simlvm, llm, device)
    launch_app(references, Limits(megabytes=max_upload), host, port, say=say)
