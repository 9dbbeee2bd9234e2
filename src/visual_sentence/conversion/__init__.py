"""Published checkpoints of the reference projects, brought over into model folders of ours, and back to diffusers.

Reads tensors only: nothing that lies in a file is run, and every tensor is used or named in the report.
"""

from .compact import compact_model
from .convert import READERS, convert_checkpoint
from .export import export_checkpoint
from .plan import Options

__all__ = ["READERS", "Options", "compact_model", "convert_checkpoint", "export_checkpoint"]
