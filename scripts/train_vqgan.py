"""Trains a VQGAN on pictures.

    python scripts/train_vqgan.py --config hub_configs/vqgan-small-64 --data photos/ --output out --preset small
    accelerate launch scripts/train_vqgan.py --config hub_configs/vqgan-small-64 --data photos/ --output out \\
        --preset small --resume latest
    ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 scripts/train_vqgan.py --config ... (processes on the CPU)

See docs/training.md.
"""

import argparse
import sys

from visual_sentence.modeling import VQGANImageProcessor, VQGANModel
from visual_sentence.training.command import train_from_command_line, training_parser
from visual_sentence.training.config import TrainingConfig
from visual_sentence.training.models import load_vqgan


def load(options: argparse.Namespace, config: TrainingConfig) -> tuple[VQGANModel, VQGANImageProcessor]:
    """The model that the options name."""
    return load_vqgan(options.config, options.preset, options.assignments)


def main() -> int:
    """Train."""
    return train_from_command_line(training_parser(__doc__), load)


if __name__ == "__main__":
    sys.exit(main())
