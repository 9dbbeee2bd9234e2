"""Published checkpoints of the reference projects, brought over into model folders of ours, and back to diffusers.

Reads tensors only: nothing that lies in a file is run, and every tensor is used or named in the report.
"""

from .codebook_reduction import cluster_codes, reduce_codebook
from .compact import compact_model
from .convert import READERS, convert_checkpoint
from .export import export_checkpoint
from .plan import Options

__all__ = [
    "READERS",
    "Options",
    "cluster_codes",
    "compact_model",
    "convert_checkpoint",
    "export_checkpoint",
    "reduce_codebook",
]
