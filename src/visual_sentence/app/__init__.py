"""A page on which everything can be tried by hand: `visual-sentence app`, and the same as a Space."""

from .limits import Limits
from .models import AppModels, References
from .page import build_app, launch_app

__all__ = ["AppModels", "Limits", "References", "build_app", "launch_app"]
