"""The page: its tabs, and the server that shows it."""

import logging
import os
import socket
from collections.abc import Callable

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when Gradio is imported: nothing is sent anywhere

import gradio as gr

from ..errors import UserError
from .caption_tab import build_caption_tab
from .controls import visitor_of
from .few_shot_tab import build_few_shot_tab
from .limits import Limits
from .models import AppModels, References
from .restore_tab import build_restore_tab
from .sentence_tab import build_sentence_tab
from .video_tab import build_video_tab
from .words_tab import build_words_tab

TITLE = "visual-sentence: images written as sentences"
TABS: dict[str, Callable[[AppModels, Limits], None]] = {
    "Words": build_words_tab,
    "Few-shot": build_few_shot_tab,
    "Caption and ask": build_caption_tab,
    "Restore": build_restore_tab,
    "Visual sentence": build_sentence_tab,
    "Video": build_video_tab,
}
# Uploads are looked for every so many seconds, and removed when they are older than so many.
SWEEP, KEPT = 600, 3600
# Requests that may wait in line; who comes later is told so.
LONGEST_LINE = 32
# Of the visitor's own machine, so that the page asks nobody else for fonts.
FONTS = ["system-ui", "sans-serif"]
LOCAL = "127.0.0.1"


def build_app(references: References | None = None, limits: Limits | None = None) -> gr.Blocks:
    """Puts the page together.

    Args:
        references: Which models it shows; the shipped and the offline ones by default. They are loaded when a tab first
            needs them.
        limits: What it takes.
    """
    models, limits = AppModels(references), limits or Limits()
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(SWEEP, KEPT)) as app:
        gr.Markdown(f"# {TITLE}")
        for name, build in TABS.items():
            with gr.Tab(name, elem_id=f"tab-{name.lower().replace(' ', '-')}"):
                build(models, limits)

        async def leave(request: gr.Request) -> None:
            models.runs.stop(visitor_of(request))

        app.unload(leave)
    app.queue(max_size=LONGEST_LINE, default_concurrency_limit=1)
    return app


def launch_app(
    references: References | None = None,
    limits: Limits | None = None,
    host: str = LOCAL,
    port: int = 0,
    block: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> gr.Blocks:
    """Serves the page until it is interrupted.

    Args:
        references: As for `build_app`.
        limits: As for `build_app`.
        host: Address to listen at; "0.0.0.0" for other machines too.
        port: 0 for any free one.
        block: Whether to wait for an interrupt; else the page is served from another thread until `close()`.
        say: Told the address once it answers.

    Raises:
        UserError: If the port is taken or may not be used.
    """
    limits = limits or Limits()
    chosen = free_port(host, port)
    app = build_app(references, limits)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks itself whether it is there
    app.launch(
        server_name=host,
        server_port=chosen,
        prevent_thread_lock=True,
        quiet=True,
        inbrowser=False,
        share=False,
        show_error=False,
        max_file_size=f"{limits.megabytes:g}mb",
        footer_links=["api"],
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Base(primary_hue="orange", font=FONTS, font_mono=["ui-monospace", "monospace"]),
    )
    say(f"http://{host}:{chosen}")
    if block:
        app.block_thread()
    return app


def free_port(host: str, port: int) -> int:
    """A port that can be listened at.

    Args:
        host: The address.
        port: The wanted one; 0 for any.

    Raises:
        UserError: If it is taken or not allowed, or the address is not this machine's.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return probe.getsockname()[1]
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"The page cannot be served at {host}:{port} ({reason}): give another --port, or 0 for any free one."
        ) from error


__all__ = ["LOCAL", "build_app", "free_port", "launch_app"]
