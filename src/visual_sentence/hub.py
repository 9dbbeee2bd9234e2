"""Model folders that load anywhere: weights, words, image processor and the code that reads them."""

import inspect
from pathlib import Path
from typing import Any

from .codebook import GlobalCodebook
from .codebook.local import LocalCodebook
from .encoders import JointEncoder
from .errors import UserError
from .modeling import V2LConfig, V2LImageProcessor, V2LModel, V2LProcessor

# What a model is made of decides these.
DERIVED_FIELDS = {
    "encoder_type",
    "encoder_config",
    "embedding_dim",
    "num_words",
    "local_codebook_size",
    "local_embedding_dim",
}


def build_v2l_model(
    encoder: JointEncoder | None = None,
    codebook: GlobalCodebook | None = None,
    local_codebook: LocalCodebook | None = None,
    **config_fields: Any,
) -> V2LModel:
    """Joins an encoder's image half and a global codebook, a local codebook, or all three.

    Convolutional encoder, decoder and projector of the local half start at random.

    Args:
        encoder: The joint encoder that the global codebook was built with.
        codebook: The global words and their embeddings in that encoder's space; given if and only if `encoder` is.
        local_codebook: Vectors of the language model's vocabulary; None for a model without a local half.
        **config_fields: Further fields of `V2LConfig`, such as `image_size` or `block_out_channels`.

    Raises:
        UserError: Parts are missing or belong to two language models, or a field is unknown or follows from the parts.
        ValueError: The codebook's width is not the encoder's, or fields contradict each other.
    """
    if (encoder is None) != (codebook is None) or (codebook is None and local_codebook is None):
        raise UserError(
            "A V2L model is made of a joint encoder and its global codebook, of a local codebook, or of all three; an "
            "encoder or a global codebook alone has no use: give the other too."
        )
    _check_fields(config_fields)
    if encoder is None and config_fields.get("cross_attention") is not None:
        raise UserError(
            f"cross_attention is {config_fields['cross_attention']!r}, but there are no global words to look at: give "
            "encoder and codebook too."
        )
    fields: dict[str, Any] = {"encoder_type": None}
    if encoder is not None and codebook is not None:
        fields = _global_fields(encoder, codebook)
    if local_codebook is not None:
        if "language_model" not in config_fields:
            _check_language_models(fields.get("language_model"), local_codebook.vocabulary.language_model)
        fields["local_codebook_size"], fields["local_embedding_dim"] = local_codebook.embeddings.shape
        fields["language_model"] = local_codebook.vocabulary.language_model or fields.get("language_model")
    model = V2LModel(V2LConfig(**{**fields, **config_fields})).eval()
    if encoder is not None and codebook is not None:
        model.load_tower(encoder.tower.state_dict())
        model.load_codebook(codebook.embeddings, codebook.image_center, codebook.vocabulary())
    if local_codebook is not None:
        model.load_local_codebook(local_codebook.embeddings, local_codebook.vocabulary)
    return model


def save_v2l_model(
    encoder: JointEncoder | None,
    codebook: GlobalCodebook | None,
    folder: str | Path,
    local_codebook: LocalCodebook | None = None,
    **config_fields: Any,
) -> None:
    """Writes a folder that `AutoModel.from_pretrained` loads, with the package installed or without it.

    Args:
        encoder: As for `build_v2l_model`.
        codebook: As for `build_v2l_model`.
        folder: Where to write.
        local_codebook: As for `build_v2l_model`.
        **config_fields: As for `build_v2l_model`.
    """
    model = build_v2l_model(encoder, codebook, local_codebook, **config_fields)
    model.save_pretrained(folder)
    V2LProcessor(_image_processor(encoder, model.config.image_size)).save_pretrained(folder)


def _image_processor(encoder: JointEncoder | None, local_size: int) -> V2LImageProcessor:
    """The encoder's own global view, and a local view of so many pixels a side."""
    if encoder is None:
        return V2LImageProcessor(local_size=local_size, do_global_view=False)
    settings = encoder.image_processor.to_dict()
    processor = V2LImageProcessor.from_dict({**settings, "local_size": local_size})
    assert isinstance(processor, V2LImageProcessor)  # and no pair, as what was not used was not asked for
    return processor


def _global_fields(encoder: JointEncoder, codebook: GlobalCodebook) -> dict[str, Any]:
    num_words, embedding_dim = codebook.embeddings.shape
    if embedding_dim != encoder.embedding_dim:
        raise ValueError(
            f"The codebook has {embedding_dim} dimensions, the encoder {encoder.name} has {encoder.embedding_dim}: "
            "join a codebook with the encoder that it was built with."
        )
    return {
        "encoder_type": encoder.encoder_type,
        "encoder_config": encoder.tower_config,
        "encoder_name": encoder.name,
        "embedding_dim": embedding_dim,
        "num_words": num_words,
        "num_global_tokens": min(V2LConfig().num_global_tokens, len(set(codebook.groups))),
        "language_model": codebook.provenance.get("language_model"),
    }


def _check_fields(config_fields: dict[str, Any]) -> None:
    known = set(inspect.signature(V2LConfig.__init__).parameters) - {"self", "kwargs"} - DERIVED_FIELDS
    for name in config_fields:
        if name in DERIVED_FIELDS:
            raise UserError(f"{name} follows from the encoder and the codebooks that are given: leave it out.")
        if name not in known:
            raise UserError(
                f"{name} is no field of V2LConfig, so it would change nothing: use {', '.join(sorted(known))}."
            )


def _check_language_models(of_global: str | None, of_local: str | None) -> None:
    if of_global is not None and of_local is not None and of_global != of_local:
        raise UserError(
            f"The global codebook's words are of the language model {of_global}, the local codebook's of {of_local}, "
            "and one model can speak one language only: build both for the same, or pass language_model if these are "
            "two names of one."
        )
