"""The light autoregression of SimLVM: embedding, GRU layers, causal attention, head (figure 2 of the paper).

It is called like any causal language model of transformers, with the same caches: the output of a GRU is its state, so
a layer's outputs are kept as attention keeps its keys, and can be repeated, reordered and cut off likewise. Level 1.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .cache_names import CACHE, cache_of, one_cache
from .configuration_visual_gru import VisualGRUConfig


class GRULayer(nn.Module):
    """One GRU over the sequence, behind a normalisation and beside a residual connection.

    Args:
        config: The model's config.
        cache_layer: Place of its states in the cache.
    """

    def __init__(self, config: VisualGRUConfig, cache_layer: int):
        super().__init__()
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.gru = nn.GRU(config.hidden_size, config.hidden_size, batch_first=True)
        self.cache_layer = cache_layer

    def forward(
        self, hidden: torch.Tensor, order: "RecurrentOrder | None", past_key_values: Cache | None
    ) -> torch.Tensor:
        """States behind each token are added to what came in.

        Args:
            hidden: [B, L, H].
            order: Which tokens follow which, where they do not simply stand in a row.
            past_key_values: Holds the states so far, and is given the new ones.
        """
        batch, _, width = hidden.shape
        before = hidden.new_zeros(batch, width)
        if past_key_values is not None and past_key_values.get_seq_length(self.cache_layer):
            layer = past_key_values.layers[self.cache_layer]
            assert isinstance(layer, CacheLayerMixin) and layer.keys is not None  # it has a length
            before = layer.keys[:, 0, -1]
        inputs = self.norm(hidden)
        if order is None:
            states, _ = self.gru(inputs, before.unsqueeze(0).contiguous())
        elif order.longest == 0:  # padding alone, which PyTorch's GRU refuses
            states = before[:, None].expand_as(inputs)
        else:
            states, _ = self.gru(order.gather(inputs), order.first_states(before))
            states = order.scatter(states, before)
        if past_key_values is not None:
            kept = states.unsqueeze(1)
            past_key_values.update(kept, kept[..., :0], self.cache_layer)
        return hidden + states


class RecurrentOrder:
    """Which tokens of a batch follow which, for layers that go step by step.

    Padding is passed over, and a sentence that begins within a row begins with a state of zeros: each run of tokens
    becomes a row of its own.

    Args:
        real: [B, L] bool, false for padding.
        starts: [B, L] bool, true where a sentence begins.
        is_first: Whether nothing stands before these tokens.
    """

    def __init__(self, real: torch.Tensor, starts: torch.Tensor, is_first: bool):
        batch, length = real.shape
        runs = (starts & real).long().cumsum(1)  # 0: goes on with what stood before
        place_in_row = torch.arange(length, device=real.device).expand(batch, length)
        self.batch, self.length = batch, length
        key = torch.arange(batch, device=real.device)[:, None] * (length + 1) + runs
        self.rows, self.columns = real.nonzero(as_tuple=True)
        found, self.run_of = key[self.rows, self.columns].unique(return_inverse=True)
        first = place_in_row.new_full((len(found),), self.rows.numel())
        first.scatter_reduce_(0, self.run_of, torch.arange(self.rows.numel(), device=real.device), "amin")
        # the last real token up to each place, counted from 1; 0 is what stood before
        self.kept = torch.where(real, place_in_row + 1, 0).cummax(1).values
        self.place = torch.arange(self.rows.numel(), device=real.device) - first[self.run_of]
        self.longest = int(self.place.max()) + 1 if self.place.numel() else 0
        self.owner = found // (length + 1)
        self.continues = (found % (length + 1) == 0) & (not is_first)

    def gather(self, hidden: torch.Tensor) -> torch.Tensor:
        """[B, L, H] as [R, longest, H], a row for each run; what stands behind a run's end is zeros."""
        runs = hidden.new_zeros(len(self.owner), self.longest, hidden.shape[-1])
        return runs.index_put((self.run_of, self.place), hidden[self.rows, self.columns])

    def first_states(self, before: torch.Tensor) -> torch.Tensor:
        """[1, R, H]: where a run goes on with what stood before, the state [B, H] of its row; else zeros."""
        return (before[self.owner] * self.continues[:, None]).unsqueeze(0).contiguous()

    def scatter(self, states: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """[R, longest, H] back as [B, L, H]; padding keeps the state of the token in front of it."""
        whole = before[:, None].to(states.dtype).repeat(1, self.length + 1, 1)
        whole = whole.index_put((self.rows, self.columns + 1), states[self.run_of, self.place])
        return whole.gather(1, self.kept[..., None].expand(-1, -1, whole.shape[-1]))


class CausalAttention(nn.Module):
    """Causal multi-head attention with rotary positions, behind a normalisation and beside a residual connection.

    Args:
        config: The model's config.
        cache_layer: Place of its keys and values in the cache.
    """

    def __init__(self, config: VisualGRUConfig, cache_layer: int):
        super().__init__()
        width = config.hidden_size
        self.heads, self.cache_layer, self.rope_base = config.num_attention_heads, cache_layer, config.rope_base
        self.norm = nn.RMSNorm(width, eps=config.rms_norm_eps)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor | None,
        position_ids: torch.Tensor,
        past_key_values: Cache | None,
    ) -> torch.Tensor:
        """What earlier tokens say is added to what came in.

        Args:
            hidden: [B, L, H].
            mask: What `create_causal_mask` made for scaled dot-product attention; None for plain causal.
            position_ids: [B, L].
            past_key_values: Keys and values so far, and is given the new ones.
        """
        batch, length, width = hidden.shape
        queries, keys, values = (
            self.qkv(self.norm(hidden)).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        queries, keys = (rotate(part, position_ids, self.rope_base) for part in (queries, keys))
        if past_key_values is not None:
            keys, values = past_key_values.update(keys, values, self.cache_layer)
        causal = mask is None and length > 1
        found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal)
        return hidden + self.out(found.transpose(1, 2).reshape(batch, length, width))


def rotate(vectors: torch.Tensor, position_ids: torch.Tensor, base: float) -> torch.Tensor:
    """Rotary positions (RoFormer, https://arxiv.org/abs/2104.09864, section 3.2.2).

    Args:
        vectors: [B, heads, L, d].
        position_ids: [B, L] or [1, L].
        base: Of the wavelengths.
    """
    half = vectors.shape[-1] // 2
    steps = torch.arange(half, device=vectors.device, dtype=torch.float32) / half
    angles = position_ids[:, None, :, None].float() * base**-steps
    cos, sin = angles.cos().to(vectors.dtype), angles.sin().to(vectors.dtype)
    first, second = vectors[..., :half], vectors[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class VisualGRUPreTrainedModel(PreTrainedModel):
    """What both classes share."""

    config_class = VisualGRUConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ["image"]
    _supports_sdpa = True
    _no_split_modules = ["GRULayer", "CausalAttention"]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.GRU):
            return  # PyTorch's own beginning, uniform in 1 / sqrt(H)
        super()._init_weights(module)


class VisualGRUModel(VisualGRUPreTrainedModel):
    """Embedding, GRU layers, attention layers, a last normalisation."""

    def __init__(self, config: VisualGRUConfig):
        super().__init__(config)
        self.embed_tokens: nn.Module = nn.Embedding(config.vocab_size, config.hidden_size)
        first_state = config.num_attention_layers  # attention comes first in the cache: its length is the cache's
        self.gru_layers = nn.ModuleList(GRULayer(config, first_state + place) for place in range(config.num_gru_layers))
        self.attention_layers = nn.ModuleList(
            CausalAttention(config, place) for place in range(config.num_attention_layers)
        )
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The table of embeddings."""
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Puts another table into its place."""
        self.embed_tokens = value

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        cache: Cache | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """Hidden states of tokens.

        Args:
            input_ids: [B, L] int64 in [0, V); or give `inputs_embeds`.
            attention_mask: [B, P + L], 0 for padding; or [B, 1, L, P + L] bool, where sentences share a row.
            position_ids: [B, L]; where one is 0 within a row, another sentence begins there.
            past_key_values: The cache of P tokens that stand before.
            inputs_embeds: [B, L, H].
            use_cache: Whether a cache is made where none is given.
            cache: The newer name of `past_key_values`.
            **kwargs: What other language models take, passed over.

        Raises:
            ValueError: If neither or both of ids and embeddings are given.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either input_ids or inputs_embeds.")
        past_key_values = one_cache(cache, past_key_values)
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        length, past = hidden.shape[1], 0 if past_key_values is None else past_key_values.get_seq_length()
        order = recurrent_order(hidden, attention_mask, position_ids, past)
        if position_ids is None:
            position_ids = torch.arange(past, past + length, device=hidden.device).unsqueeze(0)
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=hidden,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **{CACHE: past_key_values},
        )
        for layer in self.gru_layers:
            hidden = layer(hidden, order, past_key_values)
        for layer in self.attention_layers:
            hidden = layer(hidden, mask, position_ids, past_key_values)
        kept: dict[str, Any] = {CACHE: past_key_values}
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden), **kept)


def recurrent_order(
    hidden: torch.Tensor, attention_mask: torch.Tensor | None, position_ids: torch.Tensor | None, past: int
) -> RecurrentOrder | None:
    """The order of tokens where it is not simply theirs: None without padding and with one sentence a row."""
    batch, length = hidden.shape[:2]
    real = torch.ones(batch, length, dtype=torch.bool, device=hidden.device)
    if attention_mask is not None and attention_mask.ndim == 2:
        real = attention_mask[:, -length:].bool()
    starts = torch.zeros_like(real)
    if position_ids is not None:
        starts = (position_ids.expand(batch, length) == 0) & real
        if past == 0:
            starts[:, 0] = False
    if bool(real.all()) and not bool(starts.any()):
        return None
    return RecurrentOrder(real, starts, past == 0)


class VisualGRUForCausalLM(VisualGRUPreTrainedModel, GenerationMixin):
    """The light autoregression with its head over the vocabulary."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: VisualGRUConfig):
        super().__init__(config)
        self.model = VisualGRUModel(config)
        self.lm_head: nn.Module = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Puts another head into its place."""
        self.lm_head = new_embeddings

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        cache: Cache | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits of the next token, and the loss where labels are given; see `VisualGRUModel.forward`.

        Args:
            labels: [B, L] int64, -100 where nothing is asked; shifted here.
            logits_to_keep: How many of the last positions get logits, or which; 0 for all.
        """
        past = one_cache(cache, past_key_values)
        found = self.model(input_ids, attention_mask, position_ids, past, inputs_embeds, use_cache, **kwargs)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(found.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits, **{CACHE: cache_of(found)})


__all__ = ["VisualGRUForCausalLM", "VisualGRUModel"]
