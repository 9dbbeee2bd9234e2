"""A cache is heard under the name of this transformers, and under the older and the newer one."""

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from visual_sentence.modeling import VisualGRUConfig, VisualGRUForCausalLM
from visual_sentence.modeling.cache_names import CACHE, CACHE_NAMES, cache_argument, cache_of, one_cache

SIZES = {"vocab_size": 20, "hidden_size": 8, "num_attention_heads": 2}


def test_a_transformers_model_takes_the_cache_under_the_name_that_is_found():
    model = LlamaForCausalLM(LlamaConfig(intermediate_size=8, num_hidden_layers=1, **SIZES)).eval()
    assert cache_argument(model) == CACHE
    ids = torch.arange(6)[None]
    with torch.no_grad():
        first = model(ids[:, :4], use_cache=True)
        assert cache_of(first).get_seq_length() == 4
        rest = model(ids[:, 4:], **{CACHE: cache_of(first)}).logits
        torch.testing.assert_close(rest, model(ids).logits[:, 4:], atol=1e-5, rtol=1e-5)
    assert cache_of(model(ids, use_cache=False)) is None


@pytest.mark.parametrize("name", CACHE_NAMES)
def test_our_models_take_both_names(make_simlvm, name):
    ids = torch.arange(20).view(1, 20) % 20
    light = VisualGRUForCausalLM(VisualGRUConfig(**SIZES)).eval()
    for model, own in ((light, ids), (make_simlvm("llama", aligned_tokens=True), ids.repeat(1, 2)[:, :32])):
        assert cache_argument(model) in CACHE_NAMES
        with torch.no_grad():
            before = cache_of(model(input_ids=own[:, :16], use_cache=True))
            rest = model(input_ids=own[:, 16:], **{name: before}).logits
            torch.testing.assert_close(rest, model(input_ids=own).logits[:, 16:], atol=1e-4, rtol=1e-4)


def test_two_caches_are_refused_and_none_is_none():
    with pytest.raises(ValueError, match="two names for one thing"):
        one_cache(DynamicCache(), DynamicCache())
    assert one_cache(None, None) is None and cache_argument(torch.nn.Linear(1, 1)) is None
