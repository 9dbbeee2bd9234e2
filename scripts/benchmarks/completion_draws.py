"""Several draws for each of some queries: what rows share read and held once, against a row with all of its own."""

import numpy as np
import torch

from visual_sentence.sentence_completion.completer import Question, SentenceCompleter

from .common import Measurement, timed
from .completion_prefix import a_picture


def run(
    completer: SentenceCompleter, *, pairs: int = 3, queries: int = 4, draws: int = 4, rounds: int = 2, seed: int = 0
) -> Measurement:
    """Measures two ways, from pictures to tokens.

    Args:
        completer: The model.
        pairs: Pairs that all queries share.
        queries: Queries, in one batch.
        draws: Draws for each.
        rounds: How often both are run; of each the fastest counts.
        seed: Draws the pictures and the tokens.

    Returns:
        Seconds of `complete` with so many candidates, and of a batch in which each draw is a row with its own pairs and
        query. The results count as the same if the draws are.
    """
    model, processor = completer.model, completer.processor
    draw = np.random.default_rng(seed)
    side = processor.image_processor.local_size
    shown = [(a_picture(draw, side), a_picture(draw, side)) for _ in range(pairs)]
    asked = [a_picture(draw, side) for _ in range(queries)]

    def ours() -> torch.Tensor:
        fresh = SentenceCompleter(model, processor, completer.name)
        options = {"do_sample": True, "num_candidates": draws, "seed": seed}
        answers = fresh.complete([Question(shown, query) for query in asked], batch_size=queries, **options)
        return torch.stack([answer.candidates for answer in answers]).flatten(0, 1)

    def plain() -> torch.Tensor:
        rows = [query for query in asked for _ in range(draws)]
        found = model.complete(**processor(pairs=shown, query=rows), share_prefix=False, do_sample=True, seed=seed)
        return found.image_tokens[:, 0].cpu()

    measured = [[timed(way) for way in (ours, plain)] for _ in range(rounds)]
    first, second = (tokens for tokens, _ in measured[0])
    seconds = [min(taken for _, taken in way) for way in zip(*measured, strict=True)]
    setting = {
        "model": completer.name,
        "pairs": pairs,
        "queries": queries,
        "draws": draws,
        "tokens_per_image": processor.tokens_per_image,
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    return Measurement(
        "completion-draws", setting, *seconds, _of_each_query(first, draws) == _of_each_query(second, draws)
    )


def _of_each_query(tokens: torch.Tensor, draws: int) -> list[list[list[int]]]:
    """The draws [queries * draws, h, w] of each query in one order: candidates come sorted by their likelihood."""
    return [sorted(maps.flatten(1).tolist()) for maps in tokens.split(draws)]
