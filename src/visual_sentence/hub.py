"""Model folders that load anywhere: weights, words, image processor and the code that reads them."""

from pathlib import Path

from .codebook import GlobalCodebook
from .encoders import JointEncoder
from .modeling import V2LConfig, V2LModel, V2LProcessor


def build_v2l_model(encoder: JointEncoder, codebook: GlobalCodebook) -> V2LModel:
    """Joins an encoder's image half and a codebook.

    Args:
        encoder: The joint encoder that the codebook was built with.
        codebook: The words and their embeddings in that encoder's space.

    Raises:
        ValueError: If the codebook's width is not the encoder's.
    """
    num_words, embedding_dim = codebook.embeddings.shape
    if embedding_dim != encoder.embedding_dim:
        raise ValueError(
            f"The codebook has {embedding_dim} dimensions, the encoder {encoder.name} has {encoder.embedding_dim}: "
            "join a codebook with the encoder that it was built with."
        )
    vocabulary = codebook.vocabulary()
    config = V2LConfig(
        encoder_type=encoder.encoder_type,
        encoder_config=encoder.tower_config,
        encoder_name=encoder.name,
        embedding_dim=embedding_dim,
        num_words=num_words,
        num_global_tokens=min(V2LConfig().num_global_tokens, len(set(vocabulary.groups))),
        language_model=codebook.provenance.get("language_model"),
    )
    model = V2LModel(config).eval()
    model.load_tower(encoder.tower.state_dict())
    model.load_codebook(codebook.embeddings, codebook.image_center, vocabulary)
    return model


def save_v2l_model(encoder: JointEncoder, codebook: GlobalCodebook, folder: str | Path) -> None:
    """Writes a folder that `AutoModel.from_pretrained` loads, with the package installed or without it.

    Args:
        encoder: The joint encoder that the codebook was built with.
        codebook: The words and their embeddings in that encoder's space.
        folder: Where to write.
    """
    build_v2l_model(encoder, codebook).save_pretrained(folder)
    V2LProcessor(encoder.image_processor).save_pretrained(folder)
