"""The command's entry point: puts the commands together and turns a user's mistake into one line."""

import os
import sys

import click
import typer

from . import classify, codebook, demo, describe, evaluate, offline

app = typer.Typer(
    name="visual-sentence",
    help="Images written as words of a frozen language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("describe")(describe.describe)
app.command("classify")(classify.classify)
app.command("demo")(demo.demo)
app.add_typer(codebook.app, name="codebook")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(offline.app, name="offline")


def main() -> None:
    """Runs the command; ends with status 0, 2 for a mistake of the user's, 130 when interrupted."""
    quiet_libraries()
    try:
        status = app(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        status = fail(error.ctx.get_help())
    except click.ClickException as error:
        status = fail(f"error: {error.format_message()} (see `visual-sentence --help`)")
    except (click.Abort, KeyboardInterrupt):
        fail("stopped")
        status = 130
    except BrokenPipeError:
        # the reader of our output has left, `| head` for one; nothing more can be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except ValueError as error:
        if not is_user_error(error):
            raise
        status = fail(f"error: {error}")
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
    os.environ.setdefault("DATASETS_VERBOSITY", "critical")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
