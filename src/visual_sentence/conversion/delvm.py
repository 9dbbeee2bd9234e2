"""DeLVM: the folder that its `convert2hf` writes, an InternLM of the first kind over 8192 image tokens.

InternLM-1 is a Llama whose attention has biases on queries, keys, values and output. The folder names code of its own,
which is not run: its layers are transformers' Llama's, and its tensors have the same names. The embedding is the
frozen codebook behind a projection, multiplied out into a table; it is kept as a table here.

Source: ggjy/DeLVM, InternLM/tools/transformers (configuration_internlm.py, modeling_internlm.py, convert2hf.py).
"""

from .plan import Options, Plan
from .settings import Settings
from .simlvm import find_model, simlvm_plan

ROPE_BASE = 10000.0


def read_delvm(reference: str, options: Options) -> Plan:
    """Reads a folder of DeLVM's export.

    Args:
        reference: The folder, its file of weights, or a Hub id.
        options: `config` and `vqgan` matter.

    Raises:
        UserError: If files are missing or damaged, the model is of another kind, or the VQGAN of another size.
    """
    path, settings = find_model(reference, options)
    settings.require("model_type", "internlm", "internlm", "the kind of model")
    settings.require("hidden_act", "silu", "silu", "activation")
    settings.require("tie_word_embeddings", False, False, "whether the head shares the embeddings' weights")
    heads = settings.integer("num_attention_heads")
    settings.require("num_key_value_heads", heads, heads, "as many as heads of queries")
    return simlvm_plan(
        path,
        settings,
        options,
        text={
            "vocab_size": settings.integer("vocab_size"),
            "hidden_size": settings.integer("hidden_size"),
            "intermediate_size": settings.integer("intermediate_size"),
            "num_hidden_layers": settings.integer("num_hidden_layers"),
            "num_attention_heads": heads,
            "max_position_embeddings": settings.integer("max_position_embeddings", default=2048),
            "rms_norm_eps": settings.number("rms_norm_eps", default=1e-6),
            "rope_theta": _rope_base(settings),
            "attention_bias": settings.flag("bias", default=True),
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        },
        num_specials=(0, 0),
        layout="DeLVM's vocabulary is the codebook and nothing else",
        local_fit="crop",  # Resize and CenterCrop before its tokenizer
    )


def _rope_base(settings: Settings) -> float:
    """Base of the rotary positions; up to the longest sentence "dynamic" ones are the plain ones."""
    if settings.values.get("rotary") is None:
        return settings.number("rope_theta", default=ROPE_BASE)
    return settings.part("rotary").number("base", default=ROPE_BASE)


__all__ = ["read_delvm"]
