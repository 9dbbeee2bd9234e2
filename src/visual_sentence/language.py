"""Loading a frozen language model: any causal model of transformers, in the dtype that this machine runs fastest."""

import time
from dataclasses import dataclass
from functools import cache

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from .errors import UserError
from .references import LOADING_ERRORS, load_config, resolve, unreachable

DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# bfloat16 must be this much faster than float32 before its rounding is accepted on a CPU.
WORTHWHILE = 1.3
# What decoders write for bytes that are no whole character.
PARTIAL_CHARACTER = "\ufffd"


@dataclass(frozen=True)
class LanguageModel:
    """A frozen language model and its tokenizer.

    Args:
        model: A causal model in eval mode whose parameters need no gradient.
        tokenizer: Its tokenizer.
        reference: What it was loaded from.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    reference: str


def load_language_model(reference: str, dtype: str = "auto", device: str | None = None) -> LanguageModel:
    """Loads a causal language model and freezes it.

    Args:
        reference: "offline", a folder or a Hub id (for example "meta-llama/Llama-2-7b-hf").
        dtype: "float32", "bfloat16", "float16", or "auto": as saved on an accelerator, on a CPU whichever of float32
            and bfloat16 a short trial finds faster.
        device: Where to put it; the first accelerator by default, else the CPU.

    Raises:
        UserError: If there is no such model, it is not a causal language model, or dtype or device are unknown.
    """
    if dtype not in DTYPES:
        raise UserError(f"Unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}.")
    folder = resolve(reference, "language-model")
    config = load_config(reference, folder)
    device = choose_device(device)
    chosen = DTYPES[dtype] or (cpu_dtype() if device == "cpu" else "auto")
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=chosen)
    except LOADING_ERRORS as error:
        if "Unrecognized configuration class" in str(error):
            raise UserError(
                f"{reference} is a {config.model_type} model, not a causal language model: give a Llama, a GPT, ..."
            ) from error
        raise unreachable(reference, error) from error
    tokenizer = load_text_tokenizer(reference)
    return LanguageModel(model.to(device).eval().requires_grad_(False), tokenizer, reference)


def load_text_tokenizer(reference: str) -> PreTrainedTokenizerBase:
    """Loads a language model's tokenizer alone.

    Args:
        reference: "offline", a folder or a Hub id.

    Raises:
        UserError: If there is none.
    """
    folder = resolve(reference, "language-model")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error
    assert tokenizer is not None  # said of classes that want a package which is not installed
    return tokenizer


def table_of(layer: torch.nn.Module) -> torch.Tensor:
    """The weight of an embedding or a head."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def readable_texts(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Decodes every id of the vocabulary by itself and keeps what can be read.

    Args:
        tokenizer: The language model's tokenizer.

    Returns:
        From id to stripped text, in the order of the ids; without special tokens, parts of characters and
        blanks.
    """
    added_special = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special = added_special | set(tokenizer.all_special_ids)
    token_ids = sorted(set(tokenizer.get_vocab().values()) - special)
    texts = tokenizer.batch_decode([[token_id] for token_id in token_ids], clean_up_tokenization_spaces=False)
    stripped = ((token_id, text.strip()) for token_id, text in zip(token_ids, texts, strict=True))
    return {token_id: text for token_id, text in stripped if text and PARTIAL_CHARACTER not in text}


def entry_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text of every token id, from 0 to the last.

    Args:
        tokenizer: The language model's tokenizer.

    Returns:
        K texts: decoded and stripped where that can be read; else (special tokens, single bytes, white space) what
        the tokenizer itself shows; "<unused 7>" for an id between others that the tokenizer does not use.
    """
    readable = readable_texts(tokenizer)
    size = max(tokenizer.get_vocab().values()) + 1
    shown = (tokenizer.convert_ids_to_tokens(token_id) for token_id in range(size))
    return [
        readable.get(token_id) or (str(token) if token else f"<unused {token_id}>")
        for token_id, token in enumerate(shown)
    ]


def choose_device(wanted: str | None = None) -> str:
    """A device that can be used: the one wanted; by default the first accelerator, else "cpu".

    Raises:
        UserError: If the wanted one does not exist or cannot be used here.
    """
    if wanted is not None:
        try:
            torch.empty(0, device=wanted)
        except (RuntimeError, AssertionError) as error:  # torch raises either, by device
            said = str(error).strip().splitlines()[0]
            raise UserError(f"The device {wanted!r} cannot be used here ({said}): try --device cpu.") from error
        return wanted
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if accelerator is None else accelerator.type


@cache
def cpu_dtype() -> torch.dtype:
    """bfloat16 where this CPU multiplies it clearly faster than float32, found by a trial of some milliseconds."""

    def seconds(dtype: torch.dtype) -> float:
        left, right = torch.ones(256, 576, dtype=dtype), torch.ones(1536, 576, dtype=dtype)
        trials = []
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(4):
                torch.nn.functional.linear(left, right)
            trials.append(time.perf_counter() - start)
        return min(trials)

    return torch.bfloat16 if seconds(torch.float32) > WORTHWHILE * seconds(torch.bfloat16) else torch.float32
