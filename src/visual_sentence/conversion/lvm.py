"""LVM: a Llama over 8192 image tokens and 100 special ids, as its authors share it on the Hub, without a tokenizer.

Source: ytongbai/LVM, EasyLM/models/llama/llama_model.py and evaluation/vqlm_demo/inference.py.
"""

from transformers import LlamaConfig

from .plan import Options, Plan
from .settings import Settings
from .simlvm import find_model, simlvm_plan

# 100 special ids, the first of which fills up; more where a vocabulary was rounded up
SPECIALS = (100, 256)


def read_lvm(reference: str, options: Options) -> Plan:
    """Reads a LlamaForCausalLM folder of LVM's layout.

    Args:
        reference: The folder, its file of weights, or a Hub id.
        options: `config` and `vqgan` matter.

    Raises:
        UserError: If files are missing or damaged, the model is of another kind, or the VQGAN of another size.
    """
    path, settings = find_model(reference, options)
    settings.require("model_type", "llama", "llama", "the kind of model")
    settings.require("tie_word_embeddings", False, False, "whether the head shares the embeddings' weights")
    return simlvm_plan(
        path,
        settings,
        options,
        text=llama_fields(settings),
        num_specials=SPECIALS,
        layout="LVM's vocabulary is the codebook and 100 special ids",
        local_fit="stretch",  # as its demo does
    )


def llama_fields(settings: Settings) -> dict:
    """What a Llama's configuration says of its shape; ids of texts, which are image tokens here, are left behind."""
    known = LlamaConfig().to_dict().keys() | {"rope_theta", "rope_scaling"}
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    strange = ("architectures", "dtype", "torch_dtype", "transformers_version", "model_type", "_name_or_path")
    fields = {name: value for name, value in settings.values.items() if name in known and name not in strange}
    return {**fields, **ids}


__all__ = ["read_lvm"]
