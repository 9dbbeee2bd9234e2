"""From a reference to a joint encoder."""

from ..errors import UserError
from ..references import LOADING_ERRORS, load_config, resolve, unreachable
from .base import JointEncoder
from .transformers_encoder import ConseJointEncoder, TransformersJointEncoder


def load_joint_encoder(reference: str, device: str = "cpu") -> JointEncoder:
    """Loads a joint image-text encoder.

    Args:
        reference: "offline"; a folder or Hub id of a transformers dual encoder or of a `ConseModel`;
            `open_clip:ARCH@TAG-OR-FILE`, `open_clip:local-dir:FOLDER` or `open_clip:hf-hub:ID`.
        device: Where to put it.

    Raises:
        UserError: If there is no such encoder, or the model is of another kind.
    """
    if reference.startswith("open_clip:"):
        from .open_clip_encoder import OpenClipJointEncoder  # importing open_clip takes seconds

        return OpenClipJointEncoder.load(reference, device)
    folder = resolve(reference, "encoder")
    config = load_config(reference, folder)
    adapter = ConseJointEncoder if config.model_type == "conse" else TransformersJointEncoder
    try:
        encoder = adapter.load(folder, config, device)
    except UserError:
        raise
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error
    encoder.name = reference
    return encoder
