"""Trains a small SimLVM to answer as a larger one does (DeLVM): labels and the teacher's distribution together.

    python scripts/distill_simlvm.py --teacher out/large/model --config hub_configs/simlvm-300m --vqgan vqgan \\
        --data shards/ --output out/small --preset delvm

See docs/simlvm.md.
"""

import sys

from visual_sentence.sentence_training.command import train_sentences

if __name__ == "__main__":
    sys.exit(train_sentences(__doc__, distills=True))
