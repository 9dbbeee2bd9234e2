"""Pictures written as tokens and drawn again: what it looks like, and how good it is."""

from .codec import ImageCodec, ImageTokens, Reconstruction, load_image_codec, reconstruct_pictures
from .drawing import draw_words, side_by_side
from .evaluation import evaluate_reconstruction, share_of_equal_tokens
from .files import ResultFiles, plan_files, reconstruct_files

__all__ = [
    "load_image_codec",
    "ImageCodec",
    "ImageTokens",
    "Reconstruction",
    "reconstruct_pictures",
    "side_by_side",
    "draw_words",
    "ResultFiles",
    "plan_files",
    "reconstruct_files",
    "evaluate_reconstruction",
    "share_of_equal_tokens",
]
