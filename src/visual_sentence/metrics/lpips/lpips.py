"""LPIPS of RGB images."""

from visual_sentence.metrics import perceptual


class LPIPS(perceptual.Lpips):
    """See `inputs_description`."""
