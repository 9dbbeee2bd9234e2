"""A `FrozenModel` out of a V2L model's image tower, and one that was trained before."""

import torch
from transformers import AutoImageProcessor, AutoModel

from ..errors import UserError
from ..language import LanguageModel, choose_device, table_of
from ..modeling import FrozenConfig, FrozenModel, V2LConfig, V2LImageProcessor
from ..references import LOADING_ERRORS, load_config, resolve, unreachable

TOWER = "image_tower."


def build_frozen_model(
    global_model: str, language_model: LanguageModel, num_prefix_tokens: int = 2, tower_trainable: bool = False
) -> tuple[FrozenModel, V2LImageProcessor]:
    """The image tower of a V2L model with a new mapping to a language model's word embeddings.

    The mapping starts at random, with values as large as those of the words.

    Args:
        global_model: V2L model whose tower is taken: "offline", a folder or a Hub id.
        language_model: The language model; it is not part of the result.
        num_prefix_tokens: n, embeddings an image.
        tower_trainable: Whether the tower is trained too.

    Returns:
        The model, on the CPU, and the image processor that makes its views.

    Raises:
        UserError: If there is no such model, it has no image tower, or n is below 1.
    """
    folder = resolve(global_model, "v2l")
    config = load_config(global_model, folder)
    if not isinstance(config, V2LConfig) or config.encoder_type is None:
        raise UserError(f"--global-model {global_model} is no V2L model with an image tower: give one, e.g. offline.")
    try:
        whole = AutoModel.from_pretrained(folder, dtype=torch.float32)
        image_processor = AutoImageProcessor.from_pretrained(folder)
    except LOADING_ERRORS as error:
        raise unreachable(global_model, error) from error
    words = table_of(language_model.model.get_input_embeddings()).detach()
    try:
        model = FrozenModel(
            FrozenConfig(
                encoder_type=config.encoder_type,
                encoder_config=config.encoder_config,
                encoder_name=config.encoder_name,
                embedding_dim=config.embedding_dim,
                hidden_size=words.shape[1],
                num_prefix_tokens=num_prefix_tokens,
                language_model=language_model.reference,
                tower_trainable=tower_trainable,
                initializer_range=round(float(words.float().std()), 6),
            )
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    model.image_tower.load_state_dict(whole.image_tower.state_dict())
    image_processor.do_local_view, image_processor.do_global_view = False, True
    return model, image_processor


def load_frozen_model(reference: str, device: str | None = None) -> tuple[FrozenModel, V2LImageProcessor]:
    """A trained model and its image processor.

    Args:
        reference: A folder, such as `model` in the output of `scripts/train_frozen.py`, or a Hub id.
        device: Where to put it; the first accelerator by default.

    Raises:
        UserError: If there is no such model, it is of another kind, or the device is unknown.
    """
    device = choose_device(device)
    folder = resolve(reference, "v2l")
    config = load_config(reference, folder)
    if not isinstance(config, FrozenConfig):
        raise UserError(
            f"{reference} is a {config.model_type} model, a {FrozenConfig.model_type} is needed: train one with "
            "scripts/train_frozen.py."
        )
    try:
        model = AutoModel.from_pretrained(folder)
        image_processor = AutoImageProcessor.from_pretrained(folder)
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error
    return model.to(device).eval(), image_processor


def require_same_width(model: FrozenModel, language_model: LanguageModel) -> None:
    """Refuses prefixes that do not fit between a language model's words.

    Raises:
        UserError: If the widths differ.
    """
    width = language_model.model.get_input_embeddings().embedding_dim
    if width != model.config.hidden_size:
        raise UserError(
            f"The prefixes are {model.config.hidden_size} wide, the words of {language_model.reference} {width}: this "
            f"model was trained for {model.config.language_model or 'another language model'}, so give that one."
        )
