"""The `visual-sentence` command: reads arguments, calls the library, prints. Holds no logic of its own.

A package apart from the library, so that `--help` and a mistyped path answer before torch is loaded; every command
imports what it needs when it runs.
"""

from .main import main

__all__ = ["main"]
