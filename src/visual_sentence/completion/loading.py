"""A user's reference to a language model becomes a `CompletionModel`: loaded here, or reached at its address."""

from ..errors import UserError
from ..language import load_language_model
from .base import CompletionModel
from .local import LocalCompletions

SERVED = ("http://", "https://", "tgi+http://", "tgi+https://")


def is_served(reference: str) -> bool:
    """Whether a reference is the address of an endpoint and not a model to load."""
    return reference.startswith(SERVED)


def load_completion_model(
    reference: str, dtype: str = "auto", device: str | None = None, batch_size: int = 16
) -> CompletionModel:
    """Loads a language model, or connects to a served one.

    Args:
        reference: "offline", a folder or a Hub id; or the address of an endpoint: `http://host:port/v1` for an
            OpenAI-compatible one, with `#name` behind it where it serves several models, `tgi+http://host:port` for
            the native interface of text-generation-inference.
        dtype: Of a model loaded here, see `load_language_model`; a server chooses its own.
        device: Where a model loaded here is put; the first accelerator by default.
        batch_size: The most rows in one forward pass of a model loaded here.

    Raises:
        UserError: If it cannot be loaded or reached, or a dtype is wanted of a served model.
    """
    if not is_served(reference):
        return LocalCompletions(load_language_model(reference, dtype=dtype, device=device), batch_size)
    if dtype != "auto":
        raise UserError(
            f"{reference} is a server, which chose its dtype when it was started: leave the dtype {dtype!r} out."
        )
    from .remote import RemoteCompletions  # whoever loads a model here needs no client

    return RemoteCompletions(reference)
