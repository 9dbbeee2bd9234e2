"""Trains a SimLVM on visual sentences: pairs of any task, or frames.

    python scripts/train_simlvm.py --config hub_configs/simlvm-small-96 --from-scratch --vqgan out/vqgan/model \\
        --output out/simlvm --preset small \\
        --data "segmentation:shapes[:4000]" "denoising:photos/?sigma=50" "pairs:my-pairs/"
    accelerate launch scripts/train_simlvm.py --config hub_configs/simlvm-300m --vqgan vqgan --data shards/ \\
        --output out --preset delvm --resume latest

See docs/simlvm.md.
"""

import sys

from visual_sentence.sentence_training.command import train_sentences

if __name__ == "__main__":
    sys.exit(train_sentences(__doc__))
