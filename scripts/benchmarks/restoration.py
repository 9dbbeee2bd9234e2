"""Restoration in context: batches behind a shared prefix against one call of `generate` per step of an image."""

from typing import Any

import torch

from visual_sentence import LanguageModel
from visual_sentence.restoration import (
    InContextRestorer,
    NoisyCopyExamples,
    draw_examples,
    noisy_copies,
    seeded,
)

from .common import Measurement, timed

EXAMPLES = 10


def run(
    language_model: LanguageModel,
    task: str,
    *,
    mode: str = "leak-free",
    variant: str = "published-code",
    images: int = 8,
    reference_images: int = 1,
    side: int = 16,
    max_batch_tokens: int | None = None,
    setting: dict[str, Any] | None = None,
) -> Measurement:
    """Measures both ways on random maps of tokens.

    Args:
        language_model: Model and tokenizer.
        task: The restoration task.
        mode: "leak-free", ten examples from other maps, or "paper", ten noisy copies of the answer for each query.
        variant: How prompts are written.
        images: Maps that our way restores, together.
        reference_images: How many of them the plain way restores, one after another.
        side: Tokens a side of a map.
        max_batch_tokens: Of our way; the library's own by default.
        setting: Further facts for the report.

    Returns:
        Seconds per image of both ways; the result is the same where the tokens of the images that both restored are
        equal.
    """
    options = {} if max_batch_tokens is None else {"max_batch_tokens": max_batch_tokens}
    restorer = InContextRestorer(language_model, variant=variant, **options)

    def maps(name: str, count: int) -> torch.Tensor:
        places = torch.randint(len(restorer.vocabulary), (count, side, side), generator=seeded(0, name))
        return restorer.vocabulary[places]

    degraded, clean = maps("degraded", images), maps("clean", images)

    def examples(count: int) -> Any:
        if mode == "leak-free":
            others = maps("other degraded", EXAMPLES), maps("other clean", EXAMPLES)
            return draw_examples(restorer.writer, task, *others, EXAMPLES, seeded(0, "examples"))
        pairs = zip(degraded[:count], clean[:count], strict=True)
        return NoisyCopyExamples([noisy_copies(*pair, restorer.vocabulary) for pair in pairs], task)

    # The first pass allocates memory and picks kernels.
    restorer.restore_plain(task, degraded[:1, :4, :4], examples(1))

    def ours_anew() -> torch.Tensor:
        fresh = InContextRestorer(language_model, variant=variant, **options)
        return fresh.restore(task, degraded, examples(images))

    # Before and after the plain way, which takes minutes in which a machine may change its pace.
    ours, before_s = timed(ours_anew)
    plain, plain_s = timed(
        lambda: restorer.restore_plain(task, degraded[:reference_images], examples(reference_images))
    )
    again, after_s = timed(ours_anew)
    return Measurement(
        name=f"restoration-{task}" + ("" if mode == "leak-free" else f"-{mode}"),
        setting={
            "task": task,
            "mode": mode,
            "variant": variant,
            "images": images,
            "reference_images": reference_images,
            "seconds": "per image; ours is the mean of a run before and a run after the plain way",
            "tokens": f"{side} x {side}",
            "n": restorer.writer.condition,
            "m": restorer.writer.step,
            "examples": EXAMPLES,
            "max_batch_tokens": restorer.max_batch_tokens,
            "dtype": str(language_model.model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            **(setting or {}),
        },
        ours_s=(before_s + after_s) / 2 / images,
        reference_s=plain_s / reference_images,
        same_result=torch.equal(ours[:reference_images], plain) and torch.equal(ours, again),
    )
