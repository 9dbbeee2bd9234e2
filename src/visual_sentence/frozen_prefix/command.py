"""The command line of `scripts/train_frozen.py`: options from `FrozenTuningConfig`, and the models they are for."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from accelerate.utils import set_seed

from ..errors import UserError
from ..language import DTYPES, load_language_model
from ..references import OFFLINE
from ..training.command import (
    INTERRUPTED,
    USER_MISTAKE,
    OptionParser,
    add_option,
    is_first_process,
    quiet_libraries,
)
from ..training.preparation import make_accelerator
from .config import FrozenTuningConfig
from .models import build_frozen_model
from .pairs import CLASS_SENTENCE, load_pairs
from .tuning import MODEL_FOLDER, FrozenTuner

PREFIX_TOKENS = 2  # paper, section 3.1


def frozen_parser(description: str) -> OptionParser:
    """The script's parser.

    Args:
        description: The script's own text, shown by `--help`.
    """
    parser = OptionParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    models = parser.add_argument_group("models and data")
    models.add_argument(
        "--global-model",
        default=OFFLINE,
        help="V2L model whose image tower is taken: 'offline', a folder or a Hub id (default: offline).",
    )
    models.add_argument(
        "--llm", default=OFFLINE, help="Language model: 'offline', a folder or a Hub id (default: offline)."
    )
    models.add_argument("--dtype", default="auto", choices=tuple(DTYPES), help="Of the language model's weights.")
    models.add_argument(
        "--prefix-tokens", type=int, default=PREFIX_TOKENS, metavar="N", help="Embeddings an image (default: 2)."
    )
    models.add_argument("--train-tower", action="store_true", help="Train the image tower too, as the paper does.")
    models.add_argument(
        "--data",
        required=True,
        help="Pictures: a folder of class folders, or Parquet files, a saved data set or a Hub id, perhaps with "
        "[start:stop:step].",
    )
    models.add_argument("--split", default="train", help="Split of a Hub data set.")
    models.add_argument("--column", help="Column that holds the pictures; the first that does by default.")
    models.add_argument("--label-column", help="Column of class names.")
    models.add_argument("--caption-column", help="Column of captions, a text or a list of texts each.")
    models.add_argument(
        "--sentences",
        default=CLASS_SENTENCE,
        metavar="TEXT",
        help=f"What is said of a picture of a class, {{}} for its name (default: {CLASS_SENTENCE}).",
    )
    training = parser.add_argument_group("training")
    for entry in fields(FrozenTuningConfig):
        add_option(training, entry)
    return parser


def train_frozen_from_command_line(description: str, arguments: Sequence[str] | None = None) -> int:
    """Runs the script.

    Args:
        description: Its own text.
        arguments: The command line; the process's own by default.

    Returns:
        The status to exit with: 0 where the model was written, also if a signal or the time ended the run; 2 for a
        mistake of the user's, which was told in one line; 130 where nothing could be saved.
    """
    quiet_libraries()
    try:
        report, config = train_frozen_as_told(sys.argv[1:] if arguments is None else arguments, description)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return USER_MISTAKE
    except KeyboardInterrupt:  # before the first step, or a second one
        sys.stderr.write("stopped\n")
        return INTERRUPTED
    if is_first_process():
        sys.stdout.write(_summary(report, config) + "\n")
    return 0


def train_frozen_as_told(arguments: Sequence[str], description: str = "") -> tuple[dict[str, Any], FrozenTuningConfig]:
    """Trains as a command line says.

    Args:
        arguments: The command line, without the script's name.
        description: What `--help` shows first.

    Returns:
        The run's report and its settings.

    Raises:
        UserError: If settings, data and models do not go together.
    """
    options = frozen_parser(description).parse_args(list(arguments))
    names = {entry.name for entry in fields(FrozenTuningConfig)}
    config = FrozenTuningConfig(**{name: value for name, value in vars(options).items() if name in names})
    return _train(options, config), config


def _train(options: argparse.Namespace, config: FrozenTuningConfig) -> dict[str, Any]:
    accelerator = make_accelerator(config)
    pairs = load_pairs(
        options.data, options.split, options.column, options.label_column, options.caption_column, options.sentences
    )
    language_model = load_language_model(options.llm, options.dtype, str(accelerator.device))
    set_seed(config.seed)
    model, image_processor = build_frozen_model(
        options.global_model, language_model, options.prefix_tokens, options.train_tower
    )
    return FrozenTuner(config, model, image_processor, language_model, pairs, accelerator).train()


def _summary(report: dict[str, Any], config: FrozenTuningConfig) -> str:
    """One line for the user."""
    ended = {"steps": "finished", "time": "time is up"}.get(report["stopped_by"], f"stopped by {report['stopped_by']}")
    more = "" if report["stopped_by"] == "steps" else "; --resume latest continues"
    return (
        f"{ended} after {report['steps']} steps, {report['images_seen']} images, {report['seconds']:.0f} s: loss "
        f"{report['first_loss']:.4g} -> {report['last_loss']:.4g}; model in {config.folder / MODEL_FOLDER}{more}"
    )
