"""The model that a run begins with: random by a configuration, or one that was trained before."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)

from ..codebook.local import LocalCodebook
from ..errors import UserError
from ..language import entry_texts
from ..modeling import (
    ConseConfig,
    LocalVocabulary,
    LQAEConfig,
    LQAEModel,
    V2LConfig,
    V2LImageProcessor,
    V2LModel,
    V2LProcessor,
    VQGANConfig,
    VQGANImageProcessor,
    VQGANModel,
)
from ..references import LOADING_ERRORS, resolve, unreachable
from .assignments import parse_assignment
from .presets import find_preset
from .tracking import logger

Config = TypeVar("Config", bound=PretrainedConfig)
Model = TypeVar("Model", VQGANModel, V2LModel)

CONFIG_FILE = "config.json"
WEIGHTS_FILES = ("model.safetensors", "model.safetensors.index.json")
# What a V2L config says of its global half.
GLOBAL_FIELDS = (
    "encoder_type",
    "encoder_config",
    "encoder_name",
    "embedding_dim",
    "num_words",
    "num_global_tokens",
    "language_model",
)
GLOBAL_PARTS = ("image_tower.", "global_quantizer.")


def load_vqgan(
    reference: str, preset: str | None = None, assignments: Sequence[str] = ()
) -> tuple[VQGANModel, VQGANImageProcessor]:
    """A VQGAN to train.

    Args:
        reference: A folder with `config.json`, for random weights, or with weights too; or a Hub id.
        preset: Name of the preset whose model fields are taken.
        assignments: `field=value` of the model's config, over preset and folder.

    Returns:
        The model and its image processor.

    Raises:
        UserError: If there is no such model, or a field is unknown or of another kind.
    """
    config = read_config(reference, VQGANConfig, preset, assignments)
    model = _start(VQGANModel, reference, config)
    return model, VQGANImageProcessor(local_size=model.config.image_size)


def load_v2l(
    reference: str,
    preset: str | None = None,
    assignments: Sequence[str] = (),
    local_codebook: LocalCodebook | None = None,
    global_model: str | None = None,
    masked_lm: str | None = None,
) -> tuple[V2LModel, V2LProcessor]:
    """A V2L model whose local half is to be trained.

    Args:
        reference: As of `load_vqgan`.
        preset: As of `load_vqgan`.
        assignments: As of `load_vqgan`.
        local_codebook: Vectors of the language model's vocabulary; needed with random weights.
        global_model: A V2L model whose image tower and global codebook are taken: "offline", a folder or a Hub id.
        masked_lm: For an LQAE model, instead of `local_codebook`: a masked language model, a folder or a Hub id (for
            example "roberta-base"), whose word embeddings are the codebook and whose layers read the codes; or
            "offline", the sentence encoder of the offline stack. One whose head was never trained, as that one's, has
            nothing to say of masked words: it reads them, and `mlm_loss_weight` becomes 0.

    Returns:
        The model and its processor.

    Raises:
        UserError: If a model is not there, a codebook is missing, or fields contradict each other.
    """
    whole = None if global_model is None else _load_global(global_model)
    prior = None
    if masked_lm is not None:
        _require_lqae(reference, local_codebook)
        prior = _load_masked_lm(masked_lm)
        local_codebook = prior.codebook
    fixed = _fields_of_parts(reference, whole, local_codebook) | ({} if prior is None else prior.fields())
    config = read_config(reference, V2LConfig, preset, assignments, fixed)
    has_weights = weights_of(reference)
    _require_parts(reference, config, has_weights, whole, local_codebook)
    if prior is not None and not prior.has_trained_head and config.mlm_loss_weight > 0:
        logger.warning(
            "%s has no trained head for masked words, so its guesses would be noise: mlm_loss_weight is set to 0.",
            masked_lm,
        )
        config.mlm_loss_weight = 0.0
    if prior is None and not has_weights and getattr(config, "masked_lm_config", None) is not None:
        raise UserError(
            f"{reference} names a masked language model and has no weights for it: give --masked-lm, or --set "
            "masked_lm_config=none."
        )
    if not config.local_projector:  # nothing is there that could change the width
        config.local_latent_dim = config.local_embedding_dim
    model_class: type[V2LModel] = AutoModel._model_mapping[type(config)]
    model = _start(model_class, reference, config)
    if whole is not None:
        parts = {name: tensor for name, tensor in whole.state_dict().items() if name.startswith(GLOBAL_PARTS)}
        model.load_state_dict(parts, strict=False)
        model.set_vocabulary(whole.vocabulary)
    if local_codebook is not None:
        model.load_local_codebook(local_codebook.embeddings, local_codebook.vocabulary)
    if prior is not None and isinstance(model, LQAEModel) and model.masked_lm is not None:
        model.load_masked_lm(prior.model)
    if whole is not None or has_weights:
        image_processor = _read(AutoImageProcessor, reference if global_model is None else global_model)
    else:
        image_processor = V2LImageProcessor(do_global_view=False)
    image_processor.local_size, image_processor.do_local_view = config.image_size, True
    return model, V2LProcessor(image_processor)


@dataclass(frozen=True)
class _MaskedLM:
    """A masked language model as LQAE's prior.

    Args:
        model: The model.
        codebook: Its word embeddings.
        mask_token_id: Its tokenizer's mask.
        has_trained_head: Whether its head came with weights.
    """

    model: PreTrainedModel
    codebook: LocalCodebook
    mask_token_id: int
    has_trained_head: bool

    def fields(self) -> dict[str, Any]:
        """What an LQAE config says of it."""
        return {"masked_lm_config": self.model.config.to_dict(), "mask_token_id": self.mask_token_id}


def _require_lqae(reference: str, local_codebook: LocalCodebook | None) -> None:
    """Refuses a masked language model that nothing would read."""
    if local_codebook is not None:
        raise UserError(
            "--masked-lm takes its word embeddings for the codebook, and a local codebook was given too: give one of "
            "them."
        )
    found = _read(AutoConfig, reference)
    if not isinstance(found, LQAEConfig):
        raise UserError(
            f"--masked-lm is for LQAE, but {reference} describes a {found.model_type} model: leave it out, or give an "
            "lqae --config, such as hub_configs/lqae-f8-128."
        )


def _load_masked_lm(reference: str) -> _MaskedLM:
    """A masked language model with its vocabulary; of a joint encoder of ours, its sentence encoder as one."""
    folder = resolve(reference, "encoder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if isinstance(AutoConfig.from_pretrained(folder), ConseConfig):
            encoder = AutoModel.from_pretrained(folder, dtype=torch.float32).text_model
            model, has_trained_head = AutoModelForMaskedLM.from_config(encoder.config, dtype=torch.float32), False
            model.base_model.load_state_dict(encoder.state_dict(), strict=False)  # but for the pooler, which none needs
        else:
            model, loading = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
            has_trained_head = not loading["missing_keys"]
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error
    if tokenizer is None or tokenizer.mask_token_id is None:
        raise UserError(
            f"{reference} has no mask token, so nothing can be masked: give a masked language model, e.g. roberta-base."
        )
    texts = entry_texts(tokenizer)
    matrix = model.get_input_embeddings().weight.detach()
    if len(matrix) < len(texts):
        raise UserError(
            f"{reference} has word embeddings for {len(matrix)} tokens, but its tokenizer has {len(texts)} entries: "
            "take the tokenizer that belongs to the model."
        )
    codebook = LocalCodebook(
        matrix[: len(texts)].clone(),
        LocalVocabulary(texts, reference),
        {"kind": "masked-lm", "language_model": reference},
    )
    return _MaskedLM(model.eval(), codebook, tokenizer.mask_token_id, has_trained_head)


def _fields_of_parts(reference: str, whole: V2LModel | None, local_codebook: LocalCodebook | None) -> dict[str, Any]:
    """Fields of a V2L config that follow from the codebooks and the image tower."""
    fields = {} if whole is None else {name: getattr(whole.config, name) for name in GLOBAL_FIELDS}
    if local_codebook is None:
        return fields
    of_global, of_local = fields.get("language_model"), local_codebook.vocabulary.language_model
    if of_global is not None and of_local is not None and of_global != of_local:
        raise UserError(
            f"The global words are of the language model {of_global}, the local codebook's of {of_local}, and one "
            "model speaks one language: build both for the same."
        )
    fields["local_codebook_size"], fields["local_embedding_dim"] = local_codebook.embeddings.shape
    fields["language_model"] = of_local or of_global
    found = _read(AutoConfig, reference)
    if getattr(found, "local_latent_dim", None) == getattr(found, "local_embedding_dim", None):
        fields["local_latent_dim"] = None  # follows the codebook's width, as it did
    return fields


def _require_parts(
    reference: str,
    config: V2LConfig,
    has_weights: bool,
    whole: V2LModel | None,
    local_codebook: LocalCodebook | None,
) -> None:
    """Refuses a V2L model parts of which would stay random.

    Raises:
        UserError: If there is no local codebook or no image tower to take.
    """
    remedy = "give --local-codebook, a folder of `visual-sentence codebook local`, or --local-embeddings text"
    if config.local_codebook_size is None:
        raise UserError(f"{reference} describes no local half, so there is nothing to train: {remedy}.")
    if not has_weights and local_codebook is None:
        raise UserError(f"{reference} has no weights, so the local codebook has no vectors: {remedy}.")
    if not has_weights and config.encoder_type is not None and whole is None:
        raise UserError(
            f"{reference} names an image tower ({config.encoder_type}) and has no weights for it: give --global-model, "
            "or --set encoder_type=none."
        )
    if config.cross_attention is not None and config.encoder_type is None:
        raise UserError(
            f"The decoder is to attend to global words (cross_attention={config.cross_attention}), but the model has "
            "no image tower to find them: give --global-model, or --set cross_attention=none."
        )


def read_config(
    reference: str,
    config_class: type[Config],
    preset: str | None = None,
    assignments: Sequence[str] = (),
    fixed: dict[str, Any] | None = None,
) -> Config:
    """The model's configuration: the folder's, then the preset's fields, then the user's.

    Args:
        reference: As of `load_vqgan`.
        config_class: What it has to be.
        preset: Name of a preset.
        assignments: `field=value`.
        fixed: Fields that come of other options.

    Raises:
        UserError: If it is of another kind, or a field is unknown, of another kind or contradicts another.
    """
    found = _read(AutoConfig, reference)
    if not isinstance(found, config_class):
        raise UserError(
            f"{reference} is the configuration of a {found.model_type} model, but a {config_class.model_type} is "
            "trained here: use the other script or another --config."
        )
    config_class = type(found)  # perhaps a kind of its own, with more fields
    settings = {name: getattr(found, name) for name in _fields_of(config_class)}
    chosen = find_preset(preset)
    given = {**(fixed or {}), **dict(parse_assignment(line, settings) for line in assignments)}
    has_words = given.get("encoder_type", settings.get("encoder_type")) is not None
    own = getattr(config_class, "own_settings", ())
    for name, value in chosen.model.items():
        if name in settings and name not in own and (has_words or name not in chosen.needs_global_words):
            settings[name] = value
    try:
        return config_class(**{**settings, **given})
    except (ValueError, TypeError) as error:
        raise _contradiction(error) from error


def _fields_of(config_class: type[PretrainedConfig]) -> list[str]:
    """The fields that a configuration of this class is made of, its base classes' first."""
    of_ours = [base for base in config_class.__mro__ if base.__module__.split(".")[0] == __name__.split(".")[0]]
    starts = [vars(base)["__init__"] for base in reversed(of_ours) if "__init__" in vars(base)]
    names = [name for start in starts for name in inspect.signature(start).parameters]
    return [name for name in dict.fromkeys(names) if name not in ("self", "kwargs")]


def _contradiction(error: Exception) -> UserError:
    return UserError(f"The model's configuration does not hold together: {error}")


def weights_of(reference: str) -> bool:
    """Whether there are weights to begin with; those of a Hub id are taken for granted."""
    folder = Path(resolve(reference, "v2l")).expanduser()
    return any((folder / name).is_file() for name in WEIGHTS_FILES) if folder.is_dir() else True


def _read(auto_class: Any, reference: str) -> Any:
    """Config or image processor of a folder or a Hub id."""
    folder = resolve(reference, "v2l")
    if Path(folder).is_dir() and not (Path(folder) / CONFIG_FILE).is_file():
        raise UserError(f"{reference} has no {CONFIG_FILE}, so it describes no model: give a folder that has one.")
    try:
        return auto_class.from_pretrained(folder)
    except (*LOADING_ERRORS, TypeError) as error:
        raise unreachable(reference, error) from error


def _start(model_class: type[Model], reference: str, config: Any) -> Model:
    """The model with random or with trained weights."""
    if not weights_of(reference):
        try:
            return model_class(config)
        except ValueError as error:
            raise _contradiction(error) from error
    try:
        loaded: Any = model_class.from_pretrained(
            resolve(reference, "v2l"), config=config, dtype=torch.float32, output_loading_info=True
        )
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error
    model, loading = loaded
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        logger.warning("%s lacks %d tensors, which begin at random: %s, ...", reference, len(missing), missing[0])
    return model


def _load_global(reference: str) -> V2LModel:
    """A V2L model with a global half."""
    config = _read(AutoConfig, reference)
    if config.model_type != V2LConfig.model_type or config.encoder_type is None:
        raise UserError(f"--global-model {reference} is no V2L model with an image tower: give one, e.g. offline.")
    try:
        return V2LModel.from_pretrained(resolve(reference, "v2l"), dtype=torch.float32)
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error


__all__ = ["load_v2l", "load_vqgan", "read_config"]
