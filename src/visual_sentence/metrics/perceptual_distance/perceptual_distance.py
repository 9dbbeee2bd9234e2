"""Perceptual distance of RGB images, by LPIPS or by the offline image tower."""

from visual_sentence.metrics import perceptual


class PerceptualDistance(perceptual.AnyPerceptualDistance):
    """See `inputs_description`."""
