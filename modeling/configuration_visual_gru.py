"""Configuration of the light autoregression: embedding, GRU layers, causal attention, head.

Source: SimLVM, section "Light Autoregression Model Architecture", figure 2; it names the parts and no sizes. Level 0.
"""

from transformers import PretrainedConfig


class VisualGRUConfig(PretrainedConfig):
    """Describes a `VisualGRUForCausalLM`.

    Args:
        vocab_size: V.
        hidden_size: H, width of embeddings, states and attention.
        num_gru_layers: GRU layers, each behind a normalisation and beside a residual connection.
        num_attention_layers: Causal attention layers behind them.
        num_attention_heads: Heads of each; they divide H into even parts.
        max_position_embeddings: Longest sequence in tokens.
        rope_base: Base of the rotary positions in attention.
        rms_norm_eps: Added to the mean square before its root.
        initializer_range: Standard deviation of embeddings and linear layers at the beginning.
        tie_word_embeddings: Whether the head shares the embeddings' weights.

    Raises:
        ValueError: If the heads do not divide H evenly, or there is no layer of a kind.
    """

    model_type = "visual_gru"

    def __init__(
        self,
        vocab_size: int = 8192,
        hidden_size: int = 1024,
        num_gru_layers: int = 4,
        num_attention_layers: int = 1,
        num_attention_heads: int = 8,
        max_position_embeddings: int = 4096,
        rope_base: float = 10000.0,
        rms_norm_eps: float = 1e-6,
        initializer_range: float = 0.02,
        tie_word_embeddings: bool = False,
        **kwargs,
    ):
        if hidden_size % (2 * num_attention_heads):
            raise ValueError(
                f"num_attention_heads {num_attention_heads} does not cut hidden_size {hidden_size} into even parts."
            )
        if num_gru_layers < 1 or num_attention_layers < 1:
            raise ValueError(
                f"The light autoregression has GRU and attention layers, got {num_gru_layers} and "
                f"{num_attention_layers}: give at least one of each."
            )
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_gru_layers = num_gru_layers
        self.num_attention_layers = num_attention_layers
        self.num_attention_heads = num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        self.rope_base = rope_base
        self.rms_norm_eps = rms_norm_eps
        self.initializer_range = initializer_range
        # what a cache is sized by: keys and values of attention, then the states of the GRU layers
        kwargs["num_hidden_layers"] = num_attention_layers + num_gru_layers
        kwargs["tie_word_embeddings"] = tie_word_embeddings
        super().__init__(**kwargs)


__all__ = ["VisualGRUConfig"]
