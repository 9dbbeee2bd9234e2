"""Joint image-text encoders: three adapters behind one interface, and the one function that picks among them."""

from .base import JointEncoder
from .loading import load_joint_encoder

__all__ = ["JointEncoder", "load_joint_encoder"]
