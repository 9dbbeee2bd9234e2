"""Completing behind the same pairs: the pairs read once and queries in a batch, against each query from the start."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig

from visual_sentence.modeling import SimLVMConfig, SimLVMForVisualSentence, SimLVMProcessor, VQGANImageProcessor
from visual_sentence.sentence_completion.completer import Question, SentenceCompleter
from visual_sentence.shipped import SHIPPED, shipped_folder

from .common import Measurement, timed

RANDOM = "random"
# Wide weights make confident models, whose choices do not hang on the last digit.
INITIALIZER_RANGE = 0.3


def load(model: str) -> SentenceCompleter:
    """A model to measure.

    Args:
        model: A folder or a Hub id, "default" for the model that ships with the package, or "random" for its shape with
            random weights, which take as long.
    """
    if model != RANDOM:
        return SentenceCompleter.load(model, device="cpu")
    return with_random_weights(
        AutoConfig.from_pretrained(shipped_folder("simlvm")), f"{SHIPPED['simlvm']} with random weights"
    )


def with_random_weights(config: SimLVMConfig, name: str) -> SentenceCompleter:
    """A model of a config.

    Args:
        config: The config.
        name: What to call the model.
    """
    config.text_config.initializer_range = INITIALIZER_RANGE
    torch.manual_seed(0)
    made = SimLVMForVisualSentence(config)
    image_processor = VQGANImageProcessor(local_size=config.vq_config.image_size, local_fit="stretch")
    processor = SimLVMProcessor(
        image_processor,
        tokens_per_image=config.tokens_per_image,
        max_images=config.max_images,
        pad_id=made.converter.pad_id,
        begin_id=made.converter.begin_id,
    )
    return SentenceCompleter(made, processor, name)


def run(
    completer: SentenceCompleter, *, pairs: int = 3, queries: int = 16, rounds: int = 2, seed: int = 0
) -> Measurement:
    """Measures three ways, from pictures to pictures, greedily.

    Args:
        completer: The model.
        pairs: Pairs that all queries share.
        queries: Queries.
        rounds: How often all three are run; of each the fastest counts.
        seed: Draws the pictures.

    Returns:
        Seconds of the completer and of one `model.complete` per query; `setting.one_batch_s` is that of all in one
        batch, each with the pairs of its own. The results count as the same if all tokens of all three are.
    """
    model, processor = completer.model, completer.processor
    draw = np.random.default_rng(seed)
    side = processor.image_processor.local_size
    shown = [(a_picture(draw, side), a_picture(draw, side)) for _ in range(pairs)]
    asked = [a_picture(draw, side) for _ in range(queries)]

    def plain(rows: list[Image.Image]) -> torch.Tensor:
        found = model.complete(**processor(pairs=shown, query=rows), share_prefix=False)
        model.draw(found.image_tokens[:, 0])
        return found.image_tokens[:, 0].cpu()

    def ours() -> torch.Tensor:
        fresh = SentenceCompleter(model, processor, completer.name)
        answers = fresh.complete([Question(shown, query) for query in asked], batch_size=queries, do_sample=False)
        return torch.stack([answer.image_tokens for answer in answers])

    # The first pass allocates memory and picks kernels.
    plain(asked[:1])
    ways = (ours, lambda: plain(asked), lambda: torch.cat([plain([query]) for query in asked]))
    measured = [[timed(way) for way in ways] for _ in range(rounds)]
    shared, batched, single = (tokens for tokens, _ in measured[0])
    seconds = [min(taken for _, taken in way) for way in zip(*measured, strict=True)]
    setting: dict[str, Any] = {
        "model": completer.name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "pairs": pairs,
        "queries": queries,
        "tokens_per_image": processor.tokens_per_image,
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "one_batch_s": seconds[1],
    }
    same = torch.equal(shared, single) and torch.equal(batched, single)
    return Measurement("completion-prefix", setting, seconds[0], seconds[2], same)


def a_picture(draw: np.random.Generator, side: int) -> Image.Image:
    """A picture of coloured patches."""
    patches = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((side, side), Image.Resampling.BICUBIC)
