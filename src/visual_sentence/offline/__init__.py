"""Models made of installed packages: real weights without a download at run time.

`offline_folder(kind)` gives an ordinary model folder; whatever loads models loads it like any other.
"""

from .cache import offline_folder
from .packages import OFFLINE_PACKAGES, install_packages

__all__ = ["OFFLINE_PACKAGES", "install_packages", "offline_folder"]
