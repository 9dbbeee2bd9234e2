"""The training scripts' command line, made from `TrainingConfig`: an option per field, with its sentence as help."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from types import UnionType
from typing import Any, Literal, NoReturn, get_args, get_origin

import datasets
import huggingface_hub
import transformers
from accelerate.utils import set_seed

from ..errors import UserError
from ..modeling import V2LModel, V2LProcessor, VQGANImageProcessor, VQGANModel
from .config import HELP, TrainingConfig, dashed
from .loop import Trainer
from .pictures import open_pictures
from .presets import PRESETS, make_training_config
from .tracking import logger

USER_MISTAKE, INTERRUPTED = 2, 130
# Loads the model and its processor; is given all options and the settings.
ModelLoader = Callable[
    [argparse.Namespace, TrainingConfig], tuple[VQGANModel | V2LModel, V2LProcessor | VQGANImageProcessor]
]


class OptionParser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as every user's mistake is."""

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print and exit for."""
        raise UserError(f"{message} (see --help)")


def training_parser(description: str) -> OptionParser:
    """A parser of everything that both scripts understand.

    Args:
        description: The script's own text, shown by `--help`.
    """
    parser = OptionParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--config",
        required=True,
        help="Folder with the model's config.json, which begins at random, or with weights too; or a Hub id.",
    )
    model.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="assignments",
        help="Change a field of the model's config; may be given several times.",
    )
    training = parser.add_argument_group("training")
    training.add_argument(
        "--preset", choices=tuple(PRESETS), default=None, help="Named settings; all other options go before them."
    )
    for entry in fields(TrainingConfig):
        add_option(training, entry)
    return parser


def add_option(group: Any, entry: Field) -> None:
    """Adds the option of a field of the settings, absent from the result where it is not given.

    Args:
        group: A parser or a group of its options.
        entry: The field, made with `says`.
    """
    kind, sentence = entry.type, entry.metadata[HELP].replace("%", "%%")
    default = entry.default
    if default is MISSING and entry.default_factory is not MISSING:
        default = entry.default_factory()
    if default not in (None, "", []):
        sentence = f"{sentence.rstrip('.')} (default: {default})."
    common: dict[str, Any] = {"dest": entry.name, "default": argparse.SUPPRESS, "help": sentence}
    if kind is bool:
        group.add_argument(dashed(entry.name), action=argparse.BooleanOptionalAction, **common)
    elif get_origin(kind) is Literal:
        group.add_argument(dashed(entry.name), choices=get_args(kind), **common)
    elif get_origin(kind) is list:
        group.add_argument(dashed(entry.name), nargs="+", action="extend", **common)
    else:
        if isinstance(kind, UnionType):
            (kind,) = (one for one in get_args(kind) if one is not type(None))
        metavars: dict[Any, str] = {int: "N", float: "X", str: "TEXT"}
        group.add_argument(dashed(entry.name), type=kind, metavar=metavars[kind], **common)


def parse_options(
    parser: argparse.ArgumentParser, arguments: Sequence[str]
) -> tuple[argparse.Namespace, TrainingConfig]:
    """All options, and the settings they make with the preset.

    Raises:
        UserError: If an option is unknown, lacks its value, or contradicts another.
    """
    options = parser.parse_args(arguments)
    names = {entry.name for entry in fields(TrainingConfig)}
    given = {name: value for name, value in vars(options).items() if name in names}
    return options, make_training_config(options.preset, given)


def train_from_command_line(
    parser: argparse.ArgumentParser, load: ModelLoader, arguments: Sequence[str] | None = None
) -> int:
    """Runs a training script.

    Args:
        parser: From `training_parser`, perhaps with more options.
        load: Loads the model.
        arguments: The command line; the process's own by default.

    Returns:
        The status to exit with: 0 where the model was written, also if a signal or the time ended the run; 2 for a
        mistake of the user's, which was told in one line; 130 where nothing could be saved.
    """
    quiet_libraries()
    try:
        options, config = parse_options(parser, sys.argv[1:] if arguments is None else arguments)
        source = open_pictures(config.data, config.split, config.column, config.streaming)
        set_seed(config.seed)
        model, processor = load(options, config)
        trainer = Trainer(config, model, processor, source)
        report = trainer.train()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return USER_MISTAKE
    except KeyboardInterrupt:  # before the first step, or a second one
        sys.stderr.write("stopped\n")
        return INTERRUPTED
    if is_first_process():
        sys.stdout.write(report.summary(config.folder) + "\n")
    return 0


def is_first_process() -> bool:
    """Whether this is the process that speaks, of those that were launched together."""
    return os.environ.get("RANK", "0") == "0"


def quiet_libraries() -> None:
    """Leaves standard error to the run's own lines."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    logger.setLevel(logging.INFO if is_first_process() else logging.ERROR)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.logging.set_verbosity_error()
    huggingface_hub.utils.logging.set_verbosity_error()  # no line for every attempt to reach the Hub
    datasets.disable_progress_bars()


__all__ = [
    "OptionParser",
    "add_option",
    "is_first_process",
    "parse_options",
    "quiet_libraries",
    "train_from_command_line",
    "training_parser",
]
