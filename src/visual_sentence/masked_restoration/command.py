"""The command line of `scripts/finetune_lm_lora.py`: options from `TuningConfig`, and the models they are for."""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..image_io import ImageSource, open_image_source
from ..language import DTYPES, LanguageModel, load_language_model
from ..reconstruction import load_image_codec
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
from .adapters import AdapterRecord
from .config import TuningConfig
from .sequences import ImageSequences, SequenceWriter, load_finder
from .tuning import ADAPTER_FOLDER, MERGED_FOLDER, LoraTuner

WORDS = 21  # paper, section 4.2


def tuning_parser(description: str) -> OptionParser:
    """The script's parser.

    Args:
        description: The script's own text, shown by `--help`.
    """
    parser = OptionParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    models = parser.add_argument_group("models and data")
    models.add_argument("--model", required=True, help="V2L model with a local half: a folder or a Hub id.")
    models.add_argument(
        "--data",
        required=True,
        nargs="+",
        help="Pictures: folders, Parquet files, saved data sets or Hub ids, each perhaps with [start:stop:step].",
    )
    models.add_argument("--split", default="train", help="Split of a Hub data set.")
    models.add_argument("--column", help="Column that holds the pictures; the first that does by default.")
    models.add_argument("--llm", default=None, help="Language model; by default the one whose words the tokens are.")
    models.add_argument(
        "--dtype", default="auto", choices=tuple(DTYPES), help="Of its frozen weights; LoRA's are float32."
    )
    models.add_argument(
        "--global-model",
        help="V2L model that finds the global words: 'offline', a folder or a Hub id; by default --model itself.",
    )
    models.add_argument("--words", type=int, default=WORDS, metavar="N", help="Global words in front; 0 for none.")
    tuning = parser.add_argument_group("tuning")
    for entry in fields(TuningConfig):
        add_option(tuning, entry)
    return parser


def tune_from_command_line(description: str, arguments: Sequence[str] | None = None) -> int:
    """Runs the script.

    Args:
        description: Its own text.
        arguments: The command line; the process's own by default.

    Returns:
        The status to exit with: 0 where the adapter was written, also if a signal or the time ended the run; 2 for a
        mistake of the user's, which was told in one line; 130 where nothing could be saved.
    """
    quiet_libraries()
    try:
        options = tuning_parser(description).parse_args(sys.argv[1:] if arguments is None else arguments)
        names = {entry.name for entry in fields(TuningConfig)}
        config = TuningConfig(**{name: value for name, value in vars(options).items() if name in names})
        report = _tune(options, config)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return USER_MISTAKE
    except KeyboardInterrupt:  # before the first step, or a second one
        sys.stderr.write("stopped\n")
        return INTERRUPTED
    if is_first_process():
        sys.stdout.write(_summary(report, config) + "\n")
    return 0


def _tune(options: argparse.Namespace, config: TuningConfig) -> dict[str, Any]:
    accelerator = make_accelerator(config)
    source = _open(options)
    codec = load_image_codec(options.model, str(accelerator.device))
    reference = options.llm or codec.model.config.language_model or OFFLINE
    language_model = load_language_model(reference, options.dtype, str(accelerator.device))
    finder = load_finder(codec, options.global_model, options.words)
    writer = SequenceWriter(codec, language_model, finder, options.words)
    global_model = (options.global_model or options.model) if options.words else None
    with accelerator.main_process_first():  # the others find them written
        sequences = write_once(writer, source, config.folder, global_model)
    record = make_record(writer, language_model, sequences, global_model)
    del codec, finder, writer  # their memory is needed
    return LoraTuner(config, language_model, sequences, record, accelerator, source.name).train()


def write_once(writer: SequenceWriter, source: ImageSource, folder: Path, global_model: str | None) -> ImageSequences:
    """The pictures as sequences; what an earlier run of the same models and data wrote is read back.

    Args:
        writer: Writes them.
        source: The pictures.
        folder: The run's folder, where they are kept.
        global_model: What finds the global words, by name.
    """
    made_of = [writer.codec.fingerprint, writer.format.num_global_words, global_model, writer.format.start_id]
    key = hashlib.sha256(json.dumps([*made_of, source.name, source.count]).encode()).hexdigest()[:12]
    path = folder / f"sequences-{key}.safetensors"
    if path.is_file():
        return ImageSequences.load(path)
    sequences = writer.write_all(source, total=source.count)
    folder.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    sequences.save(aside)
    aside.rename(path)
    return sequences


def make_record(
    writer: SequenceWriter, language_model: LanguageModel, sequences: ImageSequences, global_model: str | None
) -> AdapterRecord:
    """What is written beside the adapter."""
    text_config = language_model.model.config.get_text_config(decoder=True)
    return AdapterRecord(
        grid=writer.format.grid,
        num_global_words=writer.format.num_global_words,
        start_id=writer.format.start_id,
        most_frequent_token=sequences.most_frequent_token(),
        tokens_sha256=writer.codec.fingerprint,
        image_model=Path(writer.codec.name).name,
        global_model=global_model and (global_model if global_model == OFFLINE else Path(global_model).name),
        language_model=language_model.reference
        if not Path(language_model.reference).is_dir()
        else Path(language_model.reference).name,
        vocab_size=text_config.vocab_size,
        hidden_size=text_config.hidden_size,
    )


def _open(options: argparse.Namespace) -> ImageSource:
    first, *others = [open_image_source(reference, options.split, options.column) for reference in options.data]
    return sum(others, start=first)


def _summary(report: dict[str, Any], config: TuningConfig) -> str:
    """One line for the user."""
    ended = {"steps": "finished", "time": "time is up"}.get(report["stopped_by"], f"stopped by {report['stopped_by']}")
    more = "" if report["stopped_by"] == "steps" else "; --resume latest continues"
    merged = f", merged model in {config.folder / MERGED_FOLDER}" if config.merge else ""
    return (
        f"{ended} after {report['steps']} steps, {report['images_seen']} images, {report['seconds']:.0f} s: loss "
        f"{report['first_loss']:.4g} -> {report['last_loss']:.4g}; adapter in {config.folder / ADAPTER_FOLDER}"
        f"{merged}{more}"
    )
