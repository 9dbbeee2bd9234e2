"""Trains the local half of a V2L model on pictures.

    visual-sentence codebook local --kind text --llm offline --encoder offline --output words
    python scripts/train_v2l.py --config hub_configs/v2l-small-64 --local-codebook words --data photos/ --output out \\
        --preset small
    accelerate launch scripts/train_v2l.py --config hub_configs/v2l-small-64 --local-codebook words --data photos/ \\
        --output out --preset small --resume latest

An LQAE model, whose codebook is a masked language model's word embeddings:

    python scripts/train_v2l.py --config hub_configs/lqae-f8-128 --masked-lm roberta-base --data photos/ --output out \\
        --preset paper

See docs/training.md.
"""

import argparse
import sys

from accelerate import PartialState

from visual_sentence.codebook.local import KINDS, LocalCodebook, build_local_codebook
from visual_sentence.errors import UserError
from visual_sentence.modeling import V2LModel, V2LProcessor
from visual_sentence.training.command import OptionParser, train_from_command_line, training_parser
from visual_sentence.training.config import TrainingConfig
from visual_sentence.training.models import load_v2l

CODEBOOK_FOLDER = "local-codebook"


def make_parser() -> OptionParser:
    """The parser of both scripts, and where the words come from."""
    parser = training_parser(__doc__)
    words = parser.add_argument_group("words")
    words.add_argument("--local-codebook", help="Folder of `visual-sentence codebook local`.")
    words.add_argument("--local-embeddings", choices=KINDS, help="Build a local codebook of this kind instead.")
    words.add_argument("--llm", default="offline", help="For it: language model, a folder or a Hub id.")
    words.add_argument("--encoder", default="offline", help="For it: joint encoder, a folder or a Hub id.")
    words.add_argument(
        "--masked-lm",
        help="For LQAE instead: a masked language model whose word embeddings are the codebook and whose layers read "
        "the codes; a folder, a Hub id, or 'offline' (a sentence encoder, which has no say of masked words).",
    )
    words.add_argument(
        "--global-model",
        help="V2L model whose image tower and words the decoder attends to: 'offline', a folder or a Hub id.",
    )
    return parser


def load(options: argparse.Namespace, config: TrainingConfig) -> tuple[V2LModel, V2LProcessor]:
    """The model that the options name."""
    codebook = None
    if options.local_codebook and options.local_embeddings:
        raise UserError("--local-codebook and --local-embeddings both name a local codebook: give one of them.")
    if options.masked_lm and (options.local_codebook or options.local_embeddings):
        given = "--local-codebook" if options.local_codebook else "--local-embeddings"
        raise UserError(f"--masked-lm and {given} both name a local codebook: give one of them.")
    if options.local_codebook:
        codebook = LocalCodebook.load(options.local_codebook)
    elif options.local_embeddings:
        folder = config.folder / CODEBOOK_FOLDER
        with PartialState().main_process_first():  # the others find it finished
            codebook = build_local_codebook(options.local_embeddings, options.llm, options.encoder, folder=folder)
    return load_v2l(
        options.config, options.preset, options.assignments, codebook, options.global_model, options.masked_lm
    )


def main() -> int:
    """Train."""
    return train_from_command_line(make_parser(), load)


if __name__ == "__main__":
    sys.exit(main())
