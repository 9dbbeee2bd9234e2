"""Writes the pairs of tasks as tokens of a VQGAN, in shards that training reads.

    python scripts/tokenize_dataset.py --model vqgan --output shards --workers 4 \\
        --data "segmentation:camvid/train.parquet?foreground=3" "denoising:shapes[:2000]?draws=4"
    python scripts/tokenize_dataset.py --model vqgan --output shards --data ... --format lvm --pairs 7
    python scripts/tokenize_dataset.py --model vqgan --output shards --videos sentences/
    python scripts/tokenize_dataset.py --model vqgan --output shards --from-lvm dataset.jsonl
    torchrun --nproc_per_node 8 scripts/tokenize_dataset.py ... (each process takes its share of the shards)

Run again after an interruption, it writes what is missing. See docs/token_shards.md.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModel, AutoProcessor

from visual_sentence import UserError
from visual_sentence.data.augmentation import Augmentation
from visual_sentence.data.delvm_format import read_delvm, write_delvm
from visual_sentence.data.imported_rows import IMPORT_LAYOUTS
from visual_sentence.data.lvm_format import read_lvm, write_lvm
from visual_sentence.data.shards import SHARD_ROWS, TokenShards, write_shards
from visual_sentence.data.specs import parse_task_data
from visual_sentence.data.token_sentences import SentenceTable
from visual_sentence.data.tokenizing import token_header, tokenize_pairs
from visual_sentence.language import choose_device
from visual_sentence.modeling import VQGANImageProcessor, VQGANModel
from visual_sentence.references import LOADING_ERRORS, load_config, resolve, unreachable
from visual_sentence.training.command import INTERRUPTED, USER_MISTAKE, OptionParser, is_first_process, quiet_libraries
from visual_sentence.video import sequence_rows

FORMATS = ("parquet", "lvm", "delvm")
LVM_FILE = "dataset.jsonl"
# What LVM's and DeLVM's own files hold a line: 16 images, and a pair.
DEFAULT_PAIRS = {"lvm": 7, "delvm": 0}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options.

    Raises:
        UserError: If one is unknown, lacks its value, or does not go with another.
    """
    parser = OptionParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("--model", required=True, help="Folder or Hub id of a VQGAN, or of a SimLVM, whose VQGAN is taken.")
    add("--output", type=Path, required=True, help="Folder for the shards; is made.")
    add("--data", nargs="+", action="extend", default=[], metavar="TASK:SOURCE", help="Tasks with their pictures.")
    add("--from-lvm", type=Path, metavar="FILE", help="Take tokens of LVM's .jsonl; --model says whose they are.")
    add("--from-delvm", type=Path, metavar="FILE", help="The same of DeLVM's train.bin.")
    add("--videos", nargs="+", metavar="FOLDER", help="Sentences that `visual-sentence sentence` took out of videos.")
    add("--layout", choices=IMPORT_LAYOUTS, help="What a line read is (default: LVM's a sequence, DeLVM's pairs).")
    add("--format", choices=FORMATS, default="parquet", help="Beside the shards, write a file for LVM or DeLVM.")
    add("--pairs", type=int, metavar="K", help="Pairs before the query's a line of it (default: LVM 7, DeLVM 0).")
    add("--workers", type=int, default=1, metavar="N", help="Processes (default: 1).")
    add("--batch-size", type=int, default=16, metavar="N", help="Pairs a forward pass (default: 16).")
    add("--shard-rows", type=int, default=SHARD_ROWS, metavar="N", help=f"Rows a shard (default: {SHARD_ROWS}).")
    add("--seed", type=int, default=0, metavar="N", help="Of all chance (default: 0).")
    add("--augment", action=argparse.BooleanOptionalAction, default=False, help="Mirror and crop examples first.")
    add("--device", help="Where the VQGAN runs; the first accelerator by default.")
    options = parser.parse_args(arguments)
    given = (options.data, options.videos, options.from_lvm, options.from_delvm)
    if sum(map(bool, given)) != 1:
        parser.error("give one of --data, --videos, --from-lvm and --from-delvm")
    if options.layout is not None and (options.data or options.videos):
        parser.error("--layout is for --from-lvm and --from-delvm: pairs of tasks are pairs, frames are sequences")
    if options.format != "parquet" and not options.data:
        parser.error("--format is for --data: files that are read become shards")
    if options.pairs is not None and options.format == "parquet":
        parser.error("--pairs is for --format lvm and delvm: shards hold single pairs, composed when they are read")
    return options


def load(reference: str, device: str | None) -> tuple[VQGANModel, VQGANImageProcessor | None]:
    """The VQGAN of a folder, and a SimLVM's own image processor.

    Raises:
        UserError: If there is no such model, or it has no VQGAN.
    """
    folder = resolve(reference, "VQGAN")
    kind = load_config(reference, folder).model_type
    if kind not in ("vqgan", "simlvm"):
        raise UserError(f"{reference} is a {kind} model, which has no VQGAN: give a VQGAN's folder or a SimLVM's.")
    if device is None and torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    device = choose_device(device)
    try:
        model = AutoModel.from_pretrained(folder)
        processor = AutoProcessor.from_pretrained(folder).image_processor if kind == "simlvm" else None
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error
    return (model if kind == "vqgan" else model.vqgan).to(device), processor


def tokenize(options: argparse.Namespace) -> str:
    """Makes shards of pictures, and perhaps a file of them; returns what to say."""
    data = [parse_task_data(text) for text in options.data]
    model, image_processor = load(options.model, options.device)
    report = tokenize_pairs(
        *(model, data, options.output, image_processor, options.batch_size, options.shard_rows, options.workers),
        seed=options.seed,
        augment=Augmentation() if options.augment else None,
    )
    if options.format == "parquet" or report.missing_shards:
        return report.summary
    pairs = DEFAULT_PAIRS[options.format] if options.pairs is None else options.pairs
    sentences = SentenceTable(TokenShards.open(options.output), (pairs, pairs), options.seed).epoch(0)
    tokens = (sentence.tokens for sentence in sentences)
    if options.format == "lvm":
        lines = write_lvm(options.output / LVM_FILE, tokens)
    else:
        lines = write_delvm(options.output, tokens)
    left = f", {len(sentences.unplaced):,} pairs left out for want of company" if len(sentences.unplaced) else ""
    return f"{report.summary}; {lines:,} lines for {options.format.upper()}{left}"


def convert(options: argparse.Namespace) -> str:
    """Makes shards of videos' frames, or of LVM's or DeLVM's file; returns what to say."""
    model, image_processor = load(options.model, options.device if options.videos else "cpu")
    header = token_header(model)
    layout = {} if options.layout is None else {"layout": options.layout}
    if options.videos:
        rows = sequence_rows(options.videos, model, image_processor, options.batch_size)
    elif options.from_lvm is not None:
        rows = read_lvm(options.from_lvm, header, **layout)
    else:
        rows = read_delvm(options.from_delvm, header, **layout)
    write_shards(options.output, header, rows, options.shard_rows)
    return f"{options.output}: {len(TokenShards.open(options.output)):,} rows"


def main() -> int:
    """Tokenize or convert."""
    quiet_libraries()
    try:
        options = parse()
        said = tokenize(options) if options.data else convert(options)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return USER_MISTAKE
    except KeyboardInterrupt:
        sys.stderr.write("stopped; run the same again to go on\n")
        return INTERRUPTED
    if is_first_process():
        sys.stdout.write(said + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
