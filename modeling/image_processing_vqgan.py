"""Pictures for the VQGAN: the local view of the V2L model's processor, and nothing else. Level 1."""

from .image_processing_v2l import V2LImageProcessor


class VQGANImageProcessor(V2LImageProcessor):
    """Makes a square of a picture and scales it to [-1, 1]; `postprocess` goes back.

    Args:
        local_size: Side of the square in pixels.
        do_global_view: As for `V2LImageProcessor`.
        **kwargs: For `V2LImageProcessor`; `local_fit` "crop" cuts the centre square out, "stretch" squashes.
    """

    model_input_names = ["pixel_values"]

    def __init__(self, local_size: int = 256, do_global_view: bool = False, **kwargs):
        super().__init__(local_size=local_size, do_global_view=do_global_view, **kwargs)


__all__ = ["VQGANImageProcessor"]
