"""`pipeline("image-reconstruction")`: pictures written as tokens, and what those tokens are drawn as.

For a VQGAN, and for a V2L model with a local half, whose tokens are words of its language model (V2L Tokenizer,
section 3.2).
"""

from typing import Any

from PIL import Image

from ..reconstruction import ImageCodec
from .base import VisualPipeline
from .inputs import Picture, open_picture

RECONSTRUCTION_TASK = "image-reconstruction"


class ImageReconstructionPipeline(VisualPipeline):
    """Pictures to tokens and back.

    Args:
        model: A `VQGANModel`, or a `V2LModel` with a local half.
        **kwargs: As for every pipeline (`image_processor`, `device`, `batch_size`, ...).

    Raises:
        UserError: If the model cannot draw pictures, or its image processor makes views that it cannot take.

    Example:
        >>> reconstruct = pipeline("image-reconstruction", model=folder)
        >>> found = reconstruct("new.jpg")
        >>> found["image"].save("drawn_again.png")
    """

    task_name = RECONSTRUCTION_TASK

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        name = self.model.config.name_or_path or f"this {self.model.config.model_type} model"
        self.codec = ImageCodec(self.model, self.image_processor, name)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Writes pictures as tokens and draws them again.

        Args:
            inputs: One picture (PIL, path or URL), a list, or anything that pipelines stream from.
            on_error: "raise", or "report" a picture that cannot be read in its place, see `VisualPipeline`.

        Returns:
            For each picture `{"image", "original", "image_tokens", "words", "global_tokens", "global_words"}`: the
            picture drawn from its tokens and the model's view of the given one, both PIL of R x R pixels; h rows of w
            places in the codebook, and the same map in words (None for a codebook without words); the k places and
            words for the whole picture (None where the decoder does not look at any).
        """
        return super().__call__(inputs, **kwargs)

    def read(self, image: Picture) -> dict[str, Image.Image]:
        """A picture; the codec makes its views, which are of several kinds."""
        return {"pictures": open_picture(image)}

    def answer(self, inputs: dict[str, list[Image.Image]]) -> dict[str, list]:
        """What B pictures are written as and drawn again as."""
        found = self.codec.reconstruct(inputs["pictures"])
        return {
            "image": [one.reconstruction for one in found],
            "original": [one.original for one in found],
            "image_tokens": [one.image_tokens for one in found],
            "words": [one.words for one in found],
            "global_tokens": [one.global_tokens for one in found],
            "global_words": [one.global_words for one in found],
        }

    def finish(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as it is."""
        return row
