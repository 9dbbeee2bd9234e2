"""Loading a SimLVM with its processor, and refusing parts that do not belong together."""

from pathlib import Path

from transformers import AutoModel, AutoProcessor

from ..errors import UserError
from ..modeling import SimLVMConfig, SimLVMForVisualSentence, SimLVMProcessor
from ..references import LOADING_ERRORS, OFFLINE, load_config, resolve, unreachable
from ..shipped import DEFAULT, SHIPPED, has_weights, shipped_model


def load_parts(reference: str | Path | None) -> tuple[SimLVMForVisualSentence, SimLVMProcessor, str]:
    """Loads a model and its processor.

    Args:
        reference: A folder or a Hub id; None or "default" for the model that ships with the package.

    Returns:
        Model, processor, and what to call the model.

    Raises:
        UserError: If there is no such model, it is of another kind, or parts of it are missing or of another size.
    """
    if reference is None or str(reference) == DEFAULT:
        name, folder = SHIPPED["simlvm"], str(shipped_model("simlvm"))
    elif str(reference) == OFFLINE:
        raise UserError(f"There is no offline SimLVM made of packages: use {DEFAULT!r} for the model that ships.")
    else:
        name = str(reference)
        folder = resolve(name, "simlvm")
    config = load_config(name, folder)
    check_kind(config, name)
    if Path(folder).is_dir() and not has_weights(Path(folder)):
        raise UserError(f"{name} has a configuration but no weights (*.safetensors): train it, or give another folder.")
    try:
        model, report = AutoModel.from_pretrained(folder, output_loading_info=True)
        processor = AutoProcessor.from_pretrained(folder)
    except LOADING_ERRORS as error:
        if "size mismatch" in str(error) or "mismatched" in str(error).lower():
            raise UserError(
                f"{name}: its weights are not of the sizes that its config.json says (a VQGAN of another codebook size "
                f"of {config.codebook_size} perhaps): put the model's own config.json and weights together."
            ) from error
        raise unreachable(name, error) from error
    if missing := sorted(report["missing_keys"]):
        raise UserError(
            f"{name} lacks {len(missing)} weights, among them {missing[0]}, which would be random: give a folder that "
            "holds both the image tokenizer and the language model."
        )
    return model, processor, name


def check_kind(config: object, name: str) -> None:
    """Refuses what does not complete visual sentences.

    Raises:
        UserError: If it is another kind of model.
    """
    kind = getattr(config, "model_type", type(config).__name__)
    if kind == SimLVMConfig.model_type:
        return
    remedy = "give a SimLVM folder, or leave the model out for the one that ships"
    if kind == "vqgan":
        raise UserError(
            f"{name} is a VQGAN alone, which draws pictures of tokens but cannot go on with a sentence: {remedy}."
        )
    raise UserError(f"{name} is a {kind} model, which does not complete visual sentences: {remedy}.")


def check_parts(config: SimLVMConfig, processor: SimLVMProcessor, name: str) -> None:
    """Refuses a processor that is not the model's.

    Raises:
        UserError: If it makes pictures or sentences of other sizes.
    """
    check_kind(config, name)
    wanted = {
        "pictures of {} pixels": (processor.image_processor.local_size, config.vq_config.image_size),
        "sentences of {} tokens an image": (processor.tokens_per_image, config.tokens_per_image),
    }
    for what, (found, needed) in wanted.items():
        if found != needed:
            raise UserError(
                f"{name}: its processor makes {what.format(found)}, but the model reads {needed}: they do not belong "
                "together; save the model's own processor beside it."
            )
    if processor.max_images > config.max_images:
        raise UserError(
            f"{name}: its processor writes sentences of up to {processor.max_images} images, but the model reads "
            f"{config.max_images}: save the model's own processor beside it."
        )
