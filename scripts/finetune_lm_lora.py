"""Tunes a language model to continue local words, by LoRA (V2L Tokenizer, section 4.3 and appendix A).

    python scripts/finetune_lm_lora.py --model v2l/model --global-model offline --data photos/ --output out
    accelerate launch scripts/finetune_lm_lora.py --model v2l/model --global-model offline --data photos/ \\
        --output out --resume latest

See docs/masked_restoration.md.
"""

import sys

from visual_sentence.masked_restoration.command import tune_from_command_line

if __name__ == "__main__":
    sys.exit(tune_from_command_line(__doc__))
