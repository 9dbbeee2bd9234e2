"""The command's entry point: puts the commands together and turns a user's mistake into one line."""

import logging
import os
import sys

import typer

from . import (
    answer,
    caption,
    classify,
    codebook,
    compact,
    complete,
    convert,
    demo,
    describe,
    evaluate,
    evaluate_completion,
    evaluate_pascal5i,
    keyframes,
    offline,
    reconstruct,
    reproduce,
    restore,
    restore_masked,
    sentence,
)

# click's own, or that of the copy of click that newer versions of typer bring along
ClickException = sys.modules[typer.BadParameter.__module__].ClickException
INTERRUPTED = 130

app = typer.Typer(
    name="visual-sentence",
    help="Images written as words of a frozen language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("describe")(describe.describe)
app.command("classify")(classify.classify)
app.command("caption")(caption.caption)
app.command("answer")(answer.answer)
app.command("reconstruct")(reconstruct.reconstruct)
app.command("restore")(restore.restore)
app.command("restore-masked")(restore_masked.restore_masked)
app.command("keyframes")(keyframes.keyframes)
app.command("sentence")(sentence.sentence)
app.command("complete")(complete.complete)
app.command("convert")(convert.convert)
app.command("compact")(compact.compact)
app.command("demo")(demo.demo)
app.command("reproduce")(reproduce.reproduce)
app.add_typer(codebook.app, name="codebook")
evaluate.app.command("completion")(evaluate_completion.evaluate_completion)
evaluate.app.command("pascal-5i")(evaluate_pascal5i.evaluate_pascal5i)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(offline.app, name="offline")


def main() -> None:
    """Runs the command; ends with status 0, 2 for a mistake of the user's, 130 when interrupted."""
    quiet_libraries()
    try:
        status = app(standalone_mode=False)
    except ClickException as error:
        status = 2
        if type(error).__name__ != "NoArgsIsHelpError":  # for which the help has been printed already
            fail(f"error: {' '.join(error.format_message().split())} (see `visual-sentence --help`)")
    except (typer.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except ValueError as error:
        if not is_user_error(error):
            raise
        status = fail(f"error: {error}")
    if status == INTERRUPTED:  # which newer versions of typer return instead of raising
        fail("stopped")
    sys.exit(status)


def is_user_error(error: Exception) -> bool:
    """Whether this is the library's way of saying that the user can mend it."""
    from visual_sentence.errors import UserError

    return isinstance(error, UserError)


def fail(message: str) -> int:
    """Writes one message to standard error and gives the status for a user's mistake."""
    typer.echo(message, err=True)
    return 2


def quiet_libraries() -> None:
    """Keeps the libraries' own bars and hints off the terminal: ours say what a user needs to know."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.basicConfig(level=logging.CRITICAL)  # for open_clip, which logs to the root
    os.environ.setdefault("DATASETS_VERBOSITY", "critical")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # no line for every attempt to reach the Hub
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
