"""The models that a run begins with."""

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from huggingface_hub import snapshot_download
from transformers import AutoModel, AutoModelForCausalLM

from ..data.token_rows import TokenHeader
from ..data.tokenizing import token_header
from ..errors import UserError
from ..modeling import (
    SimLVMConfig,
    SimLVMForVisualSentence,
    SimLVMProcessor,
    VQGANImageProcessor,
    VQGANModel,
)
from ..references import LOADING_ERRORS, resolve, unreachable

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
# What decides how a Llama's layers compute, beside the shapes of their weights.
ARITHMETIC = ("model_type", "num_attention_heads", "num_key_value_heads", "head_dim")
ARITHMETIC += ("hidden_act", "rms_norm_eps", "rope_parameters")
SAMPLES = 256


def load_simlvm(
    reference: str,
    vqgan: str | None = None,
    assignments: Sequence[str] = (),
    seed: int = 0,
    llama: str | None = None,
    from_scratch: bool = False,
) -> SimLVMForVisualSentence:
    """A SimLVM to train.

    Args:
        reference: A folder with `config.json`, for random weights, or with weights too; or a Hub id.
        vqgan: Folder of a trained VQGAN, whose weights are taken; needed where there are none.
        assignments: `field=value` of the model's config; nested ones by dots.
        seed: Of random weights.
        llama: A causal language model whose layers are taken; embeddings and head stay random.
        from_scratch: Whether weights of the folder are passed over.

    Raises:
        UserError: If there is no such model, a field is unknown, or parts do not fit.
    """
    folder = local_folder(reference)
    fields = _read_config(folder, reference)
    if fields.get("model_type") != SimLVMConfig.model_type:
        raise UserError(
            f"{reference} describes a {fields.get('model_type')!r}, this script trains a "
            f"{SimLVMConfig.model_type!r}: give another --config."
        )
    known = _all_fields(fields)
    for assignment in assignments:
        _assign(fields, known, assignment)
    try:
        config = SimLVMConfig.from_dict(fields)
    except (ValueError, TypeError) as error:
        raise UserError(f"{reference}: {error}") from error
    if config.train_vqgan:
        raise UserError(
            f"{reference} has train_vqgan true, but sentences are tokenized before training, and their tokens would go "
            "stale: train the VQGAN with scripts/train_vqgan.py first, then give --set train_vqgan=false."
        )
    set_seed(seed)
    is_trained = has_weights(folder) and not from_scratch
    if is_trained:
        if assignments:
            raise UserError(
                f"{reference} has weights, so --set {assignments[0]} would not fit them: leave it out, or give a "
                "folder with config.json alone."
            )
        model = SimLVMForVisualSentence.from_pretrained(folder, dtype=torch.float32)
    else:
        model = SimLVMForVisualSentence(config)
        if vqgan is None:
            raise UserError(
                f"{reference} has no weights, and with a random VQGAN all images would be noise: give --vqgan, a "
                "folder of scripts/train_vqgan.py."
            )
    if vqgan is not None:
        take_vqgan(model, vqgan)
        if not is_trained:
            start_from_codes(model)
    if llama is not None:
        take_layers(model, llama)
    return model


def load_processor(reference: str, model: SimLVMForVisualSentence) -> SimLVMProcessor:
    """The folder's processor, or one that fits the model: whole pictures, stretched to squares (LVM)."""
    folder = local_folder(reference)
    if any((Path(folder) / name).is_file() for name in ("processor_config.json", "preprocessor_config.json")):
        return SimLVMProcessor.from_pretrained(folder)
    return make_processor(model)


def make_processor(model: SimLVMForVisualSentence) -> SimLVMProcessor:
    """A processor that fits a model."""
    config = model.config
    image_processor = VQGANImageProcessor(local_size=config.vq_config.image_size, local_fit="stretch")
    converter = model.converter
    return SimLVMProcessor(
        image_processor, config.tokens_per_image, config.max_images, converter.pad_id, converter.begin_id
    )


def load_teacher(reference: str, student: SimLVMForVisualSentence, header: TokenHeader) -> SimLVMForVisualSentence:
    """A teacher of the same tokens.

    Raises:
        UserError: If it is not there, or its tokens or ids are others than the student's.
    """
    folder = local_folder(reference)
    kind = _read_config(folder, reference).get("model_type")
    if kind != SimLVMConfig.model_type or not has_weights(folder):
        found = f"describes a {kind!r}" if kind != SimLVMConfig.model_type else "has no weights"
        raise UserError(f"{reference} {found}, but a teacher is a trained SimLVM: give another --teacher.")
    try:
        teacher = SimLVMForVisualSentence.from_pretrained(folder, dtype=torch.float32)
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error
    token_header(teacher.vqgan).check_same(header, f"The teacher {reference}")
    for name in ("vocab_size", "image_token_offset", "special_token_ids"):
        if getattr(teacher.config, name) != getattr(student.config, name):
            raise UserError(
                f"The teacher's {name} is {getattr(teacher.config, name)}, the student's "
                f"{getattr(student.config, name)}, so their logits cannot be compared: give both the same."
            )
    if teacher.config.max_images < student.config.max_images:
        raise UserError(
            f"The teacher reads {teacher.config.max_images} images, the student {student.config.max_images}: give the "
            "student --set max_images=" + str(teacher.config.max_images) + "."
        )
    return teacher


def take_vqgan(model: SimLVMForVisualSentence, reference: str) -> None:
    """Puts a trained VQGAN's weights into the model.

    Raises:
        UserError: If it is none, or of another size.
    """
    try:
        vqgan = AutoModel.from_pretrained(local_folder(reference), dtype=torch.float32)
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error
    vqgan = getattr(vqgan, "vqgan", vqgan)
    if not isinstance(vqgan, VQGANModel):
        raise UserError(
            f"{reference} is a {vqgan.config.model_type}, not a VQGAN: give a folder of scripts/train_vqgan.py."
        )
    try:
        model.take_vqgan(vqgan)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{reference}: {str(error).splitlines()[0]}") from error


@torch.no_grad()
def start_from_codes(model: SimLVMForVisualSentence) -> None:
    """Lets tokens of similar codes begin with similar embeddings and similar rows of the head.

    Random tables know nothing of which tokens look alike, and in a short training most tokens are seen a few times.
    Rows become a random projection of their codes, and a third of what they were, so that none are equal.

    Args:
        model: With random tables and a trained image tokenizer.
    """
    codes = model.image_codes()
    codes = codes / codes.norm(dim=1).square().mean().sqrt()
    first = model.converter.offset
    tables = [model.get_input_embeddings(), model.get_output_embeddings(), model.aligned_embedding]
    for place, table in enumerate(tables):
        weight = getattr(table, "weight", None)  # of the frozen codebook's projection there is none
        if weight is None:
            continue
        rows = weight if place == len(tables) - 1 else weight[first : first + len(codes)]
        projection = torch.randn(codes.shape[1], rows.shape[1], device=rows.device) * rows.std()
        rows.copy_(rows / 3 + codes @ projection)


def take_layers(model: SimLVMForVisualSentence, reference: str) -> None:
    """Puts a causal language model's layers into the model; what speaks of words stays behind.

    Raises:
        UserError: If it cannot be loaded, or its layers are of another shape.
    """
    try:
        source = AutoModelForCausalLM.from_pretrained(local_folder(reference), dtype=torch.float32)
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error
    _require_same_arithmetic(model.config.text_config, source.config, reference)
    own = model.language_model.state_dict()
    words = {"model.embed_tokens.weight", "lm_head.weight"}
    taken = {name: tensor for name, tensor in source.state_dict().items() if name not in words}
    wrong = [name for name in taken if name not in own or own[name].shape != taken[name].shape]
    absent = [name for name in own if name not in taken and name not in words and "embed_tokens" not in name]
    if wrong or absent:
        raise UserError(
            f"The layers of {reference} do not fit the model's text_config, e.g. at {(wrong or absent)[0]}: make "
            "text_config that model's, by --set text_config.hidden_size=... and the like."
        )
    model.language_model.load_state_dict(taken, strict=False)


def local_folder(reference: str) -> Path:
    """The folder of a model, fetched from the Hub where it is none here.

    Raises:
        UserError: If there is none.
    """
    folder = Path(resolve(reference, "v2l"))
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(reference))
    except (OSError, ValueError) as error:
        raise unreachable(reference, error) from error


def has_weights(folder: str | Path) -> bool:
    """Whether a folder has a model's weights."""
    return any((Path(folder) / name).is_file() for name in WEIGHTS)


def _read_config(folder: str | Path, reference: str) -> dict[str, Any]:
    path = Path(folder) / "config.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{reference} has no readable config.json: give a folder of hub_configs/ or of a model."
        ) from error
    return fields


def _all_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """What a config's file says, and all that it could have said."""
    try:
        return SimLVMConfig.from_dict(copy.deepcopy(fields)).to_dict()
    except (ValueError, TypeError):  # assignments may mend it
        return SimLVMConfig().to_dict()


def _assign(fields: dict[str, Any], known: dict[str, Any], assignment: str) -> None:
    """Changes one field of a config; nested ones are named by dots.

    Args:
        fields: What the file says; changed in place.
        known: All fields that there are.
        assignment: FIELD=VALUE.

    Raises:
        UserError: If there is no such field.
    """
    name, found, text = assignment.partition("=")
    *parents, last = name.split(".")
    place = fields
    for parent in parents:
        section = known.get(parent)
        if not isinstance(section, dict):
            raise UserError(f"--set {assignment}: the config has no section {parent!r}.")
        known = section
        place = place.setdefault(parent, {})
    if not found or (last not in known and last not in place):
        raise UserError(
            f"--set {assignment}: the config has no field {last!r} there; give FIELD=VALUE of one that it has."
        )
    try:
        place[last] = json.loads(text)
    except ValueError:
        place[last] = text


def _require_same_arithmetic(wanted: Any, found: Any, reference: str) -> None:
    """Refuses layers that would compute something else than they were trained for.

    Raises:
        UserError: If heads, norms, activations or rotations differ.
    """
    for name in ARITHMETIC:
        ours, theirs = getattr(wanted, name, None), getattr(found, name, None)
        if ours != theirs:
            raise UserError(
                f"The layers of {reference} do not fit the model's text_config, whose {name} is {ours!r} instead of "
                f"{theirs!r}: give --set 'text_config.{name}={json.dumps(theirs)}', or another --llama."
            )


def weights_fingerprint(model: torch.nn.Module) -> str:
    """A digest of names, shapes and some numbers of each tensor, to tell models apart without reading them wholly."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().flatten()
        some = flat[:: max(1, flat.numel() // SAMPLES)][:SAMPLES].float().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + some.numpy().tobytes())
    return digest.hexdigest()
