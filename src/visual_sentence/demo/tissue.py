"""Nuclei of a stained section that comes with scikit-image, with masks by colour deconvolution."""

import numpy as np
from PIL import Image

from ..data import Example, ExampleSource

# Left and upper corners of squares, in connective tissue, where the deconvolution tells nuclei well.
CORNERS = ((416, 0), (416, 104), (416, 208), (416, 312), (416, 416), (160, 224), (160, 320), (160, 416))
SIDE = 96
NOTE = (
    "No pathologist drew these masks: in the pairs and in the truth they are what colour deconvolution (Ruifrok and "
    "Johnston 2001) and Otsu's threshold find of the blue stain."
)


class TissueSquares(ExampleSource):
    """Squares of a section stained with haematoxylin and DAB.

    Args:
        section: The picture, 8-bit RGB.
    """

    name = "squares of a stained section"

    def __init__(self, section: Image.Image):
        from skimage.color import rgb2hed
        from skimage.filters import gaussian, threshold_otsu

        self.section = section.convert("RGB")
        stain = gaussian(rgb2hed(np.asarray(self.section))[..., 0], sigma=1)
        self.mask = stain > threshold_otsu(stain)

    def __len__(self) -> int:
        return len(CORNERS)

    def source_of(self, index: int) -> str:
        """Each square is a source of its own: none overlaps another."""
        return f"square {index + 1}"

    def example(self, index: int) -> Example:
        """A square and its mask."""
        left, top = CORNERS[index]
        box = (left, top, left + SIDE, top + SIDE)
        mask = self.mask[top : top + SIDE, left : left + SIDE]
        return Example(self.section.crop(box), self.source_of(index), mask=mask)
