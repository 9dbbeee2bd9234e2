"""The command's entry point: puts the commands together and turns whatever goes wrong into one line and a status."""

import logging
import os
import sys
import traceback
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Annotated

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
    info,
    keyframes,
    offline,
    push,
    reconstruct,
    reproduce,
    restore,
    restore_masked,
    sentence,
)
from . import (
    app as page,
)
from .help_page import OnePage

# click's own, or that of the copy of click that newer versions of typer bring along
ClickException = sys.modules[typer.BadParameter.__module__].ClickException
NAME = "visual-sentence"
FAILED, MISTAKEN, INTERRUPTED = 1, 2, 130
# Set to 1, it has failures of ours printed with their traceback.
TRACEBACK_VARIABLE = "VISUAL_SENTENCE_TRACEBACK"
# Of a failure's own message, which may be pages long.
MOST_CHARACTERS = 300

evaluate.app.command("completion")(evaluate_completion.evaluate_completion)
evaluate.app.command("pascal-5i")(evaluate_pascal5i.evaluate_pascal5i)
# group of the help -> command -> what it runs, and its line there
COMMANDS = {
    "Words of pictures": {
        "describe": (describe.describe, "Find words for pictures, nearest first."),
        "classify": (classify.classify, "Sort pictures into classes shown by a few examples."),
        "caption": (caption.caption, "Caption pictures in the manner of captioned ones."),
        "answer": (answer.answer, "Answer a question about pictures, shown answered ones."),
    },
    "Pictures of words and tokens": {
        "reconstruct": (reconstruct.reconstruct, "Write pictures as tokens and draw them again."),
        "restore": (restore.restore, "Damage pictures and mend them in context."),
        "restore-masked": (restore_masked.restore_masked, "Have masked words filled by a tuned language model."),
    },
    "Visual sentences": {
        "complete": (complete.complete, "Do on pictures what solved pairs show; go on with frames."),
        "sentence": (sentence.sentence, "Make visual sentences of a video."),
        "keyframes": (keyframes.keyframes, "Choose frames of a video."),
    },
    "Models, and how good they are": {
        "evaluate": (evaluate.app, "Measure a model on data."),
        "reproduce": (reproduce.reproduce, "Measure a table of the papers, beside the paper's numbers."),
        "codebook": (codebook.app, "Build codebooks: the words that pictures are written in."),
        "convert": (convert.convert, "Bring published models over, or write ours for diffusers."),
        "compact": (compact.compact, "Copy a model at about half the size."),
        "push": (push.push, "Publish a model on the Hugging Face Hub."),
        "offline": (offline.app, "Fetch the models that are made of Python packages."),
    },
    "To begin with": {
        "demo": (demo.demo, "Show on one page what the models can do."),
        "app": (page.app, "Try everything by hand, on a page in the browser."),
        "info": (info.info, "Say what is installed here, and what could be added."),
    },
}

app = typer.Typer(
    name=NAME,
    cls=OnePage,
    help="Images written as words of a frozen language model.",
    epilog=f"Every command takes --help and --json. Exit status: 0 done, 1 failed ({TRACEBACK_VARIABLE}=1 shows "
    "where), 2 wrong use, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for group, commands in COMMANDS.items():
    for name, (command, line) in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, short_help=line, rich_help_panel=group)
        else:
            app.command(name, short_help=line, rich_help_panel=group)(command)


def print_version(wanted: bool) -> None:
    """Answers --version, and ends there."""
    if not wanted:
        return
    try:
        typer.echo(f"{NAME} {version_of(NAME)}")
    except PackageNotFoundError:  # run from its sources
        typer.echo(f"{NAME} (not installed)")
    raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Takes what stands before a command."""


def main() -> None:
    """Runs the command; ends with status 0, 2 for a mistake of the user's, 1 for a failure, 130 when interrupted."""
    quiet_libraries()
    try:
        status = app(prog_name=NAME, standalone_mode=False)
    except ClickException as error:
        status = MISTAKEN
        if type(error).__name__ != "NoArgsIsHelpError":  # for which the help has been printed already
            context = getattr(error, "ctx", None)
            command = NAME if context is None else context.command_path
            say(f"error: {' '.join(error.format_message().split())} (see `{command} --help`)")
    except (typer.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except Exception as error:
        if is_user_error(error):
            status = MISTAKEN
            say(f"error: {error}")
        else:
            status = FAILED
            report(error)
    if status == INTERRUPTED:  # which newer versions of typer return instead of raising
        say("stopped")
    sys.exit(status)


def is_user_error(error: Exception) -> bool:
    """Whether this is the library's way of saying that the user can mend it."""
    errors = sys.modules.get("visual_sentence.errors")  # not imported: that may be what failed
    return errors is not None and isinstance(error, errors.UserError)


def report(error: Exception) -> None:
    """Says in one line what failed and how to report it, behind the traceback where that is wanted."""
    if os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
        traceback.print_exception(error)
    found = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    if len(found) > MOST_CHARACTERS:
        found = f"{found[:MOST_CHARACTERS]} ..."
    say(
        f"failure: {found}: if nothing on this machine explains it, the fault is ours: please report what this command "
        f"prints with {TRACEBACK_VARIABLE}=1, and what `{NAME} info` prints"
    )


def say(message: str) -> None:
    """Writes one message to standard error."""
    typer.echo(message, err=True)


def quiet_libraries() -> None:
    """Keeps the libraries' own bars and hints off the terminal: ours say what a user needs to know."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.basicConfig(level=logging.CRITICAL)  # for open_clip, which logs to the root
    os.environ.setdefault("DATASETS_VERBOSITY", "critical")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # no line for every attempt to reach the Hub
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
