"""Trains a map from pictures to word embeddings of a frozen language model (Frozen, Tsimpoukelli et al. 2021).

    python scripts/train_frozen.py --global-model offline --llm offline --data tiny-imagenet/train.parquet \\
        --label-column class_name --sentences "A picture of a {}." --max-steps 1000 --output out
    python scripts/train_frozen.py --data captions.parquet --caption-column captions --output out --resume latest

See docs/baselines.md.
"""

import sys

from visual_sentence.frozen_prefix.command import train_frozen_from_command_line

if __name__ == "__main__":
    sys.exit(train_frozen_from_command_line(__doc__))
