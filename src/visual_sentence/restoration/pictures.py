"""Damaged pictures to restored ones: degrade, write as tokens, restore the tokens, draw.

Nothing but a picture's view of R x R pixels is looked at, the global words' included.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image

from ..completion import is_served
from ..errors import UserError
from ..language import LanguageModel, load_language_model
from ..reconstruction import ImageCodec, ImageTokens, load_image_codec
from .copies import RATIOS, noisy_copies
from .degradation import DEFAULT_SHIFT, Degradation, View
from .examples import Examples, NoisyCopyExamples, SharedExamples, draw_examples
from .prompts import BEST_VARIANT, CONDITION, STEP, VARIANTS
from .restorer import MAX_BATCH_TOKENS, InContextRestorer
from .tasks import HOLE_TASKS, seeded
from .vocabulary import check_vocabulary

LEAK_FREE, PAPER = "leak-free", "paper"
MODES = (LEAK_FREE, PAPER)
# The offline default of `load_language_model`, for models that name no language model.
OFFLINE = "offline"


@dataclass(frozen=True)
class RestorationSetting:
    """What is restored, and how.

    Args:
        task: One of `TASKS`.
        mode: "leak-free": the examples are other pictures, degraded and whole, and everything is taken of the degraded
            picture. "paper": the examples are noisy copies of the undamaged picture, which hold the answer, and its
            global words are used.
        variant: How prompts are written, one of `VARIANTS`.
        n: Tokens before a step that are read.
        m: Tokens that are predicted at a time.
        num_examples: Examples in a prompt; in mode "paper" at most 10, the replacement ratios from 50 % downwards.
        seed: Of everything random.
        shift: Of the task "shift", see `Degradation`.

    Raises:
        UserError: If a value makes no sense.
    """

    task: str
    mode: str = LEAK_FREE
    variant: str = BEST_VARIANT
    n: int = CONDITION
    m: int = STEP
    num_examples: int = len(RATIOS)
    seed: int = 0
    shift: float | None = DEFAULT_SHIFT

    def __post_init__(self) -> None:
        Degradation(self.task, self.shift)
        if self.mode not in MODES:
            raise UserError(f"There is no restoration mode {self.mode!r}: choose one of {', '.join(MODES)}.")
        if self.variant not in VARIANTS:
            raise UserError(f"There is no prompt variant {self.variant!r}: choose one of {', '.join(VARIANTS)}.")
        for name in ("n", "m", "num_examples"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is a number of at least 1, found {getattr(self, name)}.")
        if self.mode == PAPER and self.num_examples > len(RATIOS):
            raise UserError(
                f"Mode paper has {len(RATIOS)} replacement ratios, so no {self.num_examples} examples: take at most "
                f"{len(RATIOS)}."
            )

    def as_dict(self) -> dict[str, Any]:
        """The fields, for the record."""
        return asdict(self)


@dataclass(frozen=True)
class RestoredPictures:
    """What became of B pictures.

    Args:
        originals: The undamaged views; None where the pictures came degraded.
        degraded: R x R pixels.
        restored: R x R pixels.
        degraded_tokens: [B, h, w] int64, what the language model was given; in a hole nothing is known, whatever stands
            there.
        restored_tokens: [B, h, w] int64.
        global_tokens: [B, k] int64, what the decoder looked at; None where it looks at none.
    """

    originals: list[Image.Image] | None
    degraded: list[Image.Image]
    restored: list[Image.Image]
    degraded_tokens: torch.Tensor
    restored_tokens: torch.Tensor
    global_tokens: torch.Tensor | None

    @property
    def known_originals(self) -> list[Image.Image]:
        """The undamaged views of pictures that were degraded here."""
        assert self.originals is not None
        return self.originals


class PictureRestorer:
    """Restores pictures by a V2L model and the language model whose words it writes.

    Args:
        codec: A V2L model with a local half.
        language_model: The language model of its local codebook.
        max_batch_tokens: As for `InContextRestorer`.

    Raises:
        UserError: If they do not belong together.
    """

    def __init__(
        self, codec: ImageCodec, language_model: LanguageModel, max_batch_tokens: int = MAX_BATCH_TOKENS
    ) -> None:
        check_vocabulary(codec, language_model)
        self.codec, self.language_model, self.max_batch_tokens = codec, language_model, max_batch_tokens
        self._restorer: tuple[tuple, InContextRestorer] | None = None
        self._examples: tuple[RestorationSetting, list[View], SharedExamples] | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the map of tokens."""
        side = self.codec.resolution // self.codec.model.config.downsampling_factor
        return side, side

    def restore(
        self,
        views: Sequence[View],
        setting: RestorationSetting,
        examples: Sequence[View] = (),
        already_degraded: bool = False,
    ) -> RestoredPictures:
        """Degrades and restores B pictures; each comes out as it would alone.

        Args:
            views: What the model sees of them.
            setting: What is done.
            examples: Mode "leak-free": other pictures; of more than `num_examples` so many are drawn, of fewer each
                serves more than once.
            already_degraded: Whether the pictures are damaged already; a hole is painted grey anyway.

        Raises:
            UserError: If examples are missing or hold a picture that is to be restored, mode "paper" lacks the
                undamaged picture, or the prompts do not fit the language model.
        """
        check_examples(setting, examples, already_degraded)
        answers = {fingerprint(view) for view in views}
        if setting.mode == LEAK_FREE and any(fingerprint(example) in answers for example in examples):
            raise UserError(
                "A picture that is to be restored is among its own examples, which would give the answer away: give "
                "other pictures as examples."
            )
        degraded = [self._degrade(view, setting, already_degraded) for view in views]
        tokens = self.codec.encode(degraded)
        shown: Examples
        if setting.mode == PAPER:
            tokens, shown = self._of_the_answer(views, tokens, setting)
        else:
            shown = self._of_others(setting, list(examples))
        maps = self.in_context(setting).restore(setting.task, tokens.image_tokens, shown)
        return RestoredPictures(
            originals=None if already_degraded else [view.picture for view in views],
            degraded=degraded,
            restored=self.codec.decode(ImageTokens(maps, tokens.global_tokens)),
            degraded_tokens=tokens.image_tokens,
            restored_tokens=maps,
            global_tokens=tokens.global_tokens,
        )

    def in_context(self, setting: RestorationSetting) -> InContextRestorer:
        """The restorer of token maps; kept, since it holds the examples' key-value cache."""
        key = (setting.variant, setting.n, setting.m)
        if self._restorer is None or self._restorer[0] != key:
            restorer = InContextRestorer(
                self.language_model,
                self.codec.codebook_size,
                variant=setting.variant,
                condition=setting.n,
                step=setting.m,
                max_batch_tokens=self.max_batch_tokens,
            )
            self._restorer = (key, restorer)
        return self._restorer[1]

    def _degrade(self, view: View, setting: RestorationSetting, already_degraded: bool) -> Image.Image:
        if already_degraded and setting.task not in HOLE_TASKS:
            return view.picture
        return Degradation(setting.task, setting.shift, setting.seed).apply(view, self.grid)

    def _of_the_answer(
        self, views: Sequence[View], tokens: ImageTokens, setting: RestorationSetting
    ) -> tuple[ImageTokens, NoisyCopyExamples]:
        """Mode "paper": what the undamaged pictures give away, as published."""
        clean = self.codec.encode([view.picture for view in views])
        known = clean.image_tokens if setting.task in HOLE_TASKS else tokens.image_tokens
        restorer = self.in_context(setting)
        extra = 0
        if restorer.writer.wording.counts_global_tokens and clean.global_tokens is not None:
            extra = clean.global_tokens.shape[1]
        copies = [
            noisy_copies(
                one,
                other,
                restorer.vocabulary,
                RATIOS[: setting.num_examples],
                extra_tokens=extra,
                seed=setting.seed,
            )
            for one, other in zip(known, clean.image_tokens, strict=True)
        ]
        return ImageTokens(known, clean.global_tokens), NoisyCopyExamples(copies, setting.task)

    def _of_others(self, setting: RestorationSetting, examples: list[View]) -> SharedExamples:
        """Mode "leak-free": the same examples for all pictures of these settings; encoded once."""
        if self._examples is None or self._examples[:2] != (setting, examples):
            generator = seeded(setting.seed, "examples", setting.task)
            order = torch.randperm(len(examples), generator=generator)[: setting.num_examples].tolist()
            chosen = [examples[index] for index in order]
            degraded = self.codec.encode([self._degrade(view, setting, False) for view in chosen]).image_tokens
            clean = self.codec.encode([view.picture for view in chosen]).image_tokens
            writer = self.in_context(setting).writer
            drawn = draw_examples(writer, setting.task, degraded, clean, setting.num_examples, generator)
            self._examples = (setting, examples, drawn)
        return self._examples[2]


def check_examples(setting: RestorationSetting, examples: Sequence[Any], already_degraded: bool) -> None:
    """Refuses a mode that lacks what it needs, before any model is asked.

    Raises:
        UserError: If mode "leak-free" has no examples, or mode "paper" no undamaged picture.
    """
    if setting.mode == PAPER and already_degraded:
        raise UserError(
            "Mode paper makes its examples of the undamaged picture, but the pictures come degraded: choose mode "
            "leak-free and give examples."
        )
    if setting.mode == LEAK_FREE and not len(examples):
        raise UserError(
            "Mode leak-free shows the language model other pictures, degraded and whole, and there is none: give "
            "examples, or choose mode paper, whose examples are made of the answer itself."
        )


def fingerprint(view: View) -> str:
    """The sha256 of what the model sees of a picture, in hexadecimal."""
    return hashlib.sha256(view.picture.tobytes()).hexdigest()


def load_picture_restorer(
    model: str, language_model: str | None = None, device: str | None = None, dtype: str = "auto"
) -> PictureRestorer:
    """Loads both models.

    Args:
        model: V2L model with a local half: a folder or a Hub id.
        language_model: "offline", a folder or a Hub id; the V2L model's own by default.
        device: Where both are put; the first accelerator by default.
        dtype: Of the language model, see `load_language_model`.

    Raises:
        UserError: If one cannot be loaded, or they do not belong together.
    """
    codec = load_image_codec(model, device)
    check_is_v2l(codec)
    reference = language_model or codec.model.config.language_model or OFFLINE
    if is_served(reference):
        raise UserError(
            f"{reference} is a served language model, which takes texts and no token ids, so it cannot read local "
            "tokens: give a folder or a Hub id."
        )
    return PictureRestorer(codec, load_language_model(reference, dtype=dtype, device=device))


def check_is_v2l(codec: ImageCodec) -> None:
    """Refuses a VQGAN before a language model is loaded for it.

    Raises:
        UserError: If the codes are no words.
    """
    if not codec.is_v2l:
        raise UserError(
            f"{codec.name} is a VQGAN, whose codes no language model can read: give a V2L model with a local half."
        )
