"""`pipeline("masked-image-restoration")`: masked local words filled by a tuned language model.

V2L Tokenizer, section 4.3 and figure 8: a share of a picture's local tokens is masked, and a language model that was
tuned on such tokens writes them anew, from left to right.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..errors import UserError
from ..language import load_language_model
from ..masked_restoration import (
    MaskedPictures,
    MaskedRestorer,
    SequenceWriter,
    TunedLanguageModel,
    load_finder,
    load_tuned,
    masked_patches,
    random_known,
)
from ..masked_restoration.restorer import MASK_RATIO
from ..reconstruction import ImageCodec, load_image_codec
from ..references import OFFLINE
from .base import VisualPipeline
from .inputs import Picture, open_picture

MASKED_TASK = "masked-image-restoration"


class MaskedImageRestorationPipeline(VisualPipeline):
    """Pictures with masked local tokens, restored by a tuned language model.

    Args:
        model: A `V2LModel` with a local half.
        adapter: Folder or Hub id of an adapter that `scripts/finetune_lm_lora.py` wrote; None where `language_model`
            was saved with its adapter merged.
        global_model: What finds the global words, where the adapter was tuned with some: "offline", a folder or a Hub
            id; by default the model itself.
        **kwargs: As for every pipeline of this package (`language_model`, `image_processor`, `device`, ...).

    Example:
        >>> restore = pipeline("masked-image-restoration", model=folder, adapter="out/adapter")
        >>> restore("photo.jpg", mask_ratio=0.3)["image"].save("restored.png")
        >>> restore({"image": "scratched.jpg", "mask": "scratches.png"})["image"].save("mended.png")
    """

    task_name = MASKED_TASK
    forward_parameters = ("mask_ratio", "seed")

    def __init__(
        self,
        *args: Any,
        adapter: str | Path | None = None,
        global_model: str | Path | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self._adapter = None if adapter is None else str(adapter)
        self._global_model = None if global_model is None else str(global_model)
        name = self.model.config.name_or_path or f"this {self.model.config.model_type} model"
        self.codec = ImageCodec(self.model, self.image_processor, name)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Masks and restores pictures.

        Args:
            inputs: One picture (PIL, path or URL) or a mapping of `image` and `mask`, a picture that is white where
                `image` is damaged; a list of these, or anything that pipelines stream from.
            mask_ratio: Share of local tokens that is masked at random in pictures without a mask (0.3, the paper's).
            seed: Of these masks.
            on_error: "raise", or "report" a picture that cannot be read in its place, see `VisualPipeline`.

        Returns:
            For each picture `{"image", "masked", "original", "image_tokens", "known", "masked_tokens"}`: the restored
            picture, what is left of it with masked codes set to zero, and the model's view of the given one (PIL, R x R
            pixels); h rows of w restored tokens and of whether each was known; and how many were not.

        Raises:
            UserError: If the parts do not belong together.
        """
        return super().__call__(inputs, **kwargs)

    @cached_property
    def tuned(self) -> TunedLanguageModel:
        """The tuned language model, loaded when it is first needed."""
        tuned = load_tuned(self.language_model, self._adapter)
        tuned.require_tokens_of(self.codec)
        return tuned

    @cached_property
    def writer(self) -> SequenceWriter:
        """Writes pictures as the sequences that the adapter was tuned on."""
        words = self.tuned.record.num_global_words
        finder = load_finder(self.codec, self._global_model, words)
        return SequenceWriter(self.codec, self.tuned.language_model, finder, words)

    def read(self, image: Picture) -> dict[str, Any]:
        """A picture, and which of its tokens a given mask takes away: [1, h, w] bool; all False without a mask."""
        picture, grid = open_picture(image), tuple(self.model.config.grid_size)
        masked = torch.zeros(1, *grid, dtype=torch.bool)
        if isinstance(image, Mapping) and image.get("mask") is not None:
            mask = open_picture(image["mask"])
            if mask.size != picture.size:
                raise UserError(
                    f"The mask is {mask.width} x {mask.height} pixels and its picture {picture.width} x "
                    f"{picture.height}, so it does not say which of them are damaged: give a mask of the same size."
                )
            masked = masked_patches(self.codec.views([mask])[0], grid)[None]
            if masked.all():
                raise UserError("The mask covers the whole picture, so nothing is left to go by: give a smaller one.")
        return {"pictures": picture, "masked": masked}

    def answer(
        self, inputs: dict[str, Any], mask_ratio: float = MASK_RATIO, seed: int = 0
    ) -> dict[str, list[Any] | torch.Tensor]:
        """Restores B pictures."""
        pictures: list[Image.Image] = inputs["pictures"]
        tokens = self.codec.encode(pictures)
        sequences = self.writer.write(pictures, tokens)
        masked = inputs["masked"].cpu()
        has_mask = masked.flatten(1).any(1)[:, None, None]
        known = torch.where(has_mask, ~masked, random_known(sequences.maps, mask_ratio, seed))
        model = self.tuned.language_model.model
        restored = MaskedRestorer(model, self.codec.codebook_size).restore(sequences, known)
        drawn = MaskedPictures(self.codec, pictures, tokens, known)
        return {
            "image": drawn.draw(restored),
            "masked": drawn.masked,
            "original": drawn.originals,
            "image_tokens": restored.tolist(),
            "known": known.tolist(),
            "masked_tokens": (~known).flatten(1).sum(1).tolist(),
        }

    def finish(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as it is."""
        return row


def load_masked_pipeline(
    model: str,
    adapter: str | Path | None = None,
    language_model: str | None = None,
    global_model: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
) -> MaskedImageRestorationPipeline:
    """Loads the pipeline from references.

    Args:
        model: V2L model with a local half: a folder or a Hub id.
        adapter: See `MaskedImageRestorationPipeline`.
        language_model: "offline", a folder or a Hub id; by default the one that the V2L model's words come from.
        global_model: See `MaskedImageRestorationPipeline`.
        dtype: Of the language model, see `load_language_model`.
        device: Where everything is put; the first accelerator by default.

    Raises:
        UserError: If one of them cannot be loaded.
    """
    codec = load_image_codec(model, device)
    reference = language_model or codec.model.config.language_model or OFFLINE
    pipeline = MaskedImageRestorationPipeline(
        model=codec.model,
        image_processor=codec.image_processor,
        language_model=load_language_model(reference, dtype=dtype, device=device),
        adapter=adapter,
        global_model=global_model,
        device=codec.model.device,
    )
    _ = pipeline.writer  # loads the rest, so that what does not belong together is found before any work is done
    return pipeline
