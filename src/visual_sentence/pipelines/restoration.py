"""`pipeline("visual-restoration")`: damaged pictures mended by a frozen language model that reads their local words.

V2L Tokenizer, section 4.3 and figure 4: inpainting, outpainting, deblurring, rotation and shift, in context.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..reconstruction import ImageCodec
from ..restoration.degradation import View, view_of
from ..restoration.pictures import PictureRestorer, RestorationSetting, check_examples, check_is_v2l
from ..restoration.tasks import TASKS
from .base import VisualPipeline
from .inputs import Picture, open_picture

RESTORATION_TASK = "visual-restoration"
SETTING = ("mode", "variant", "n", "m", "num_examples", "seed", "shift")


class VisualRestorationPipeline(VisualPipeline):
    """Restoration in context by a frozen language model.

    Args:
        model: A `V2LModel` with a local half.
        **kwargs: As for every pipeline of this package (`language_model`, `image_processor`, `device`, ...).

    Raises:
        UserError: If the model has no local half, or its codes are no words.

    Example:
        >>> restore = pipeline("visual-restoration", model=folder)
        >>> restore("photo.jpg", task="inpainting", examples=["a.jpg", "b.jpg"])["image"].save("restored.png")
    """

    task_name = RESTORATION_TASK
    forward_parameters = ("task", "examples", "already_degraded", *SETTING)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        name = self.model.config.name_or_path or f"this {self.model.config.model_type} model"
        self.codec = ImageCodec(self.model, self.image_processor, name)
        check_is_v2l(self.codec)
        self._example_views: tuple[list[Picture], list[View]] = ([], [])

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Degrades and restores pictures.

        Args:
            inputs: One picture (PIL, path or URL), a list, or anything that pipelines stream from.
            task: "inpainting", "outpainting", "deblurring", "rotation" or "shift".
            examples: Other pictures, undamaged, that show the language model what to do; needed in mode "leak-free".
            mode: "leak-free" (default), or "paper", whose examples are made of the answer itself.
            already_degraded: Whether the pictures are damaged already; for inpainting and outpainting in the task's own
                hole.
            variant: "published-code" (default) or "paper": how prompts are written.
            n: Tokens before a step that are read (16).
            m: Tokens that are predicted at a time (2).
            num_examples: Examples in a prompt (10).
            seed: Of everything random (0).
            shift: Of the task "shift": share of the side; None for the published code's, see `Degradation`.
            on_error: "raise", or "report" a picture that cannot be read in its place, see `VisualPipeline`.

        Returns:
            For each picture `{"image", "degraded", "original", "task", "mode"}`: the restored picture, the degraded one
            and the model's view of the given one (None where that came degraded), PIL of R x R pixels.

        Raises:
            UserError: If a value makes no sense, examples are missing, or the parts do not belong together.
        """
        return super().__call__(inputs, **kwargs)

    @cached_property
    def restorer(self) -> PictureRestorer:
        """Both models; the language model is loaded when it is first needed."""
        return PictureRestorer(self.codec, self.language_model)

    def check(self, parameters: dict[str, Any]) -> dict[str, Any]:
        given = {name: parameters[name] for name in (*SETTING, "task") if name in parameters}
        given.setdefault("task", TASKS[0])
        RestorationSetting(**given)
        examples = parameters.get("examples")
        if examples is not None and isinstance(examples, (Picture, Mapping)):
            return {**parameters, "examples": [examples]}
        if examples is not None and not isinstance(examples, Sequence):
            raise UserError(f"examples must be a list of pictures, found {type(examples).__name__}.")
        return parameters

    def read(self, image: Picture) -> dict[str, Any]:
        """The views of a picture."""
        return {"views": view_of(open_picture(image), self.codec.resolution)}

    def answer(
        self,
        inputs: dict[str, list[View]],
        task: str | None = None,
        examples: Sequence[Picture] | None = None,
        already_degraded: bool = False,
        **setting: Any,
    ) -> dict[str, list[Any] | None]:
        """Restores B pictures."""
        if task is None:
            raise UserError(f"{RESTORATION_TASK} needs a task: pass task= one of {', '.join(TASKS)}.")
        chosen = RestorationSetting(task, **setting)
        check_examples(chosen, examples or (), already_degraded)
        shown = self._views_of(list(examples or ()))
        found = self.restorer.restore(inputs["views"], chosen, shown, already_degraded)
        count = len(found.restored)
        return {
            "image": found.restored,
            "degraded": found.degraded,
            "original": found.originals,
            "task": [task] * count,
            "mode": [chosen.mode] * count,
        }

    def finish(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as it is."""
        return row

    def _views_of(self, examples: list[Picture]) -> list[View]:
        """The examples as the model sees them; those of the last call are kept."""
        given, views = self._example_views
        if not _same(given, examples):
            views = [view_of(open_picture(example), self.codec.resolution) for example in examples]
            self._example_views = (examples, views)
        return views


def _same(one: Sequence[Picture], other: Sequence[Picture]) -> bool:
    """Whether two lists hold the same objects, or equal paths."""
    return len(one) == len(other) and all(
        a is b or (isinstance(a, (str, Path)) and a == b) for a, b in zip(one, other, strict=True)
    )
