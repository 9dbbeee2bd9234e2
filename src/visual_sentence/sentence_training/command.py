"""The command lines of scripts/train_simlvm.py and scripts/distill_simlvm.py."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ..data import Augmentation, parse_task_data
from ..data.shards import TokenShards
from ..data.token_rows import PAIR, TokenHeader
from ..data.token_sentences import SentenceTable
from ..data.token_stream import SentenceStream
from ..data.tokenizing import token_header, tokenize_pairs
from ..errors import UserError
from ..modeling import SimLVMForVisualSentence, SimLVMProcessor
from ..training.command import INTERRUPTED, USER_MISTAKE, OptionParser, add_option, is_first_process, quiet_libraries
from ..training.data import Share
from ..training.preparation import NOT_COMPARED
from .batches import Collator, SentenceFeed, StreamChunks, TableChunks, stream_chunk
from .config import PRESETS, SentenceTrainingConfig, make_config
from .lora import TunedModel
from .models import has_weights, load_processor, load_simlvm, load_teacher, local_folder, weights_fingerprint
from .objective import Distillation, NextToken
from .processes import join_processes
from .trainer import MODEL_FOLDER, SentenceTrainer

TOKENS_FOLDER = "tokens"
NETWORK_FIELDS = ("image_token_offset", "special_token_ids", "embedding", "grid_positions", "max_images")
DISTILLATION = ("temperature", "teacher_weight", "label_weight", "reverse_divergence")
DRAWS_AT_ONCE = 32


def sentence_parser(description: str, distills: bool) -> OptionParser:
    """A parser of everything that a script understands.

    Args:
        description: The script's own text, shown by `--help`.
        distills: Whether there is a teacher.
    """
    parser = OptionParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    models = parser.add_argument_group("models")
    models.add_argument(
        "--config",
        required=True,
        help="Folder with the model's config.json, which begins at random, or with weights too; or a Hub id.",
    )
    models.add_argument("--vqgan", help="Folder of a trained VQGAN; not needed where --config has weights.")
    models.add_argument(
        "--from-scratch", action="store_true", help="Begin at random though --config has weights: they are passed over."
    )
    models.add_argument("--llama", help="Folder or Hub id of a Llama checkpoint whose layers the model begins with.")
    models.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="assignments",
        help="Change a field of the model's config, e.g. text_config.hidden_size=128; may be given several times.",
    )
    if distills:
        models.add_argument("--teacher", required=True, help="Folder of the larger model, of the same VQGAN.")
    training = parser.add_argument_group("training")
    training.add_argument(
        "--preset", choices=tuple(PRESETS), default=None, help="Named settings; all other options go before them."
    )
    for entry in fields(SentenceTrainingConfig):
        if distills or entry.name not in DISTILLATION:
            add_option(training, entry)
    return parser


def train_sentences(description: str, distills: bool = False, arguments: Sequence[str] | None = None) -> int:
    """Runs a script.

    Args:
        description: Its own text.
        distills: Whether there is a teacher.
        arguments: The command line; the process's own by default.

    Returns:
        The status to exit with: 0 where the model was written, also if a signal or the time ended the run; 2 for a
        mistake of the user's, which was told in one line; 130 where nothing could be saved.
    """
    quiet_libraries()
    try:
        report, config = train_as_told(sys.argv[1:] if arguments is None else arguments, description, distills)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return USER_MISTAKE
    except KeyboardInterrupt:  # before the first step, or a second one
        sys.stderr.write("stopped\n")
        return INTERRUPTED
    if is_first_process():
        sys.stdout.write(_summary(report, config) + "\n")
    return 0


def train_as_told(
    arguments: Sequence[str], description: str = "", distills: bool = False
) -> tuple[dict[str, Any], SentenceTrainingConfig]:
    """Trains as a command line says.

    Args:
        arguments: The command line, without the script's name.
        description: What `--help` shows first.
        distills: Whether there is a teacher.

    Returns:
        The run's report and its settings.

    Raises:
        UserError: If settings, data and models do not go together.
    """
    options = sentence_parser(description, distills).parse_args(list(arguments))
    names = {entry.name for entry in fields(SentenceTrainingConfig)}
    config = make_config(options.preset, {name: value for name, value in vars(options).items() if name in names})
    return _train(options, config), config


def _train(options: argparse.Namespace, config: SentenceTrainingConfig) -> dict[str, Any]:
    if config.lora_rank and (options.from_scratch or not has_weights(local_folder(options.config))):
        raise UserError(
            f"--lora-rank tunes a trained model, but {options.config} has no weights: leave it out to train from the "
            "beginning, or give a trained model's folder."
        )
    accelerator = join_processes(config)
    model = load_simlvm(
        options.config, options.vqgan, options.assignments, config.seed, options.llama, options.from_scratch
    )
    processor = load_processor(options.config, model)
    objective, header, data = NextToken(), token_header(model.vqgan), network_settings(model)
    if config.lora_rank:  # a checkpoint holds LoRA's matrices only
        data["base"] = weights_fingerprint(model)
    if reference := getattr(options, "teacher", None):
        teacher = load_teacher(reference, model, header)
        data["teacher"] = weights_fingerprint(teacher)
        objective = Distillation(
            teacher, config.temperature, config.teacher_weight, config.label_weight, config.reverse_divergence
        )
    model.to(accelerator.device)
    shards = open_shards(config, model, processor, header, accelerator)
    data |= {"tokens": header.vqgan_sha256, "rows": len(shards)}
    feed = make_feed(config, model, shards, accelerator)
    return SentenceTrainer(config, TunedModel(model, config), processor, feed, objective, accelerator, data).train()


def network_settings(model: SimLVMForVisualSentence) -> dict[str, Any]:
    """What of a model's config decides its network and its ids, as JSON values by dotted names."""
    fields = model.config.to_dict()
    found = {f"model.{name}": fields[name] for name in NETWORK_FIELDS}
    text = {name: value for name, value in fields["text_config"].items() if name not in NOT_COMPARED}
    found |= {f"model.text_config.{name}": value for name, value in text.items()}
    return json.loads(json.dumps(found))


def make_feed(
    config: SentenceTrainingConfig, model: SimLVMForVisualSentence, shards: TokenShards, accelerator: Accelerator
) -> SentenceFeed:
    """The batches of this process.

    Raises:
        UserError: If there are too few rows for a sentence or for so many processes.
    """
    share = Share(
        config.batch_size,
        config.gradient_accumulation,
        accelerator.num_processes,
        accelerator.process_index,
        config.seed,
    )
    limit = model.config.max_images
    collator = Collator(model.converter, model.config.tokens_per_image, limit, config.loss_on, config.packing)
    num_pairs = (config.min_pairs, config.max_pairs)
    if config.streaming:
        stream = SentenceStream(shards, num_pairs, config.seed, rank=share.rank, world_size=share.processes)
        return SentenceFeed(StreamChunks(stream, stream_chunk(share, collator)), share, collator)
    longest = 2 * (config.max_pairs + 1)
    if longest > limit and (shards.rows.layout == PAIR).any():
        raise UserError(
            f"--max-pairs {config.max_pairs} and the query's pair are {longest} images, this model reads {limit}: make "
            f"--max-pairs {limit // 2 - 1} or smaller, or the model's max_images larger."
        )
    return SentenceFeed(TableChunks(SentenceTable(shards, num_pairs, config.seed)), share, collator)


def open_shards(
    config: SentenceTrainingConfig,
    model: SimLVMForVisualSentence,
    processor: SimLVMProcessor,
    header: TokenHeader,
    accelerator: Accelerator,
) -> TokenShards:
    """The shards that are named, and those of the pictures that are named, which are tokenized now or were before.

    Processes share the tokenizing; the first begins, as it settles the plan.

    Raises:
        UserError: If some are of another VQGAN, or a source cannot be read.
    """
    folders = [text for text in config.data if is_shards(text)]
    specs = [text for text in config.data if not is_shards(text)]
    if specs:
        folder = config.folder / TOKENS_FOLDER
        with accelerator.main_process_first():
            tokenize_pairs(
                model.vqgan,
                [parse_task_data(text) for text in specs],
                folder,
                processor.image_processor,
                batch_size=DRAWS_AT_ONCE,
                seed=config.seed,
                augment=Augmentation() if config.augment else None,
            )
        accelerator.wait_for_everyone()
        folders.append(str(folder))
    return TokenShards.open(folders, header)


def is_shards(text: str) -> bool:
    """Whether `--data` names shards, rather than a task and its source."""
    path = Path(text).expanduser()
    return path.exists() or ":" not in text


def _summary(report: dict[str, Any], config: SentenceTrainingConfig) -> str:
    """One line for the user."""
    ended = {"steps": "finished", "time": "time is up"}.get(report["stopped_by"], f"stopped by {report['stopped_by']}")
    more = "" if report["stopped_by"] == "steps" else "; --resume latest continues"
    first, last = ("unknown" if report[name] is None else f"{report[name]:.4g}" for name in ("first_loss", "last_loss"))
    return (
        f"{ended} after {report['steps']} steps, {report['tokens_seen']:,} tokens, {report['seconds']:.0f} s "
        f"({report['tokens_per_second']:.0f} tokens/s): loss {first} -> {last}; "
        f"model in {config.folder / MODEL_FOLDER}{more}"
    )
