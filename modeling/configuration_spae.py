"""Configuration of SPAE: an image as a pyramid of words of a frozen language model.

Source: Yu et al. 2023, "SPAE: Semantic Pyramid AutoEncoder for Multimodal Generation with Frozen LLMs"
(https://arxiv.org/abs/2306.17842), section 3, of which no code was published. Sizes and layers agree with the numbers
of tokens in V2L's table 3; the weights of the losses and the thresholds are this project's. Level 2.
"""

from collections.abc import Sequence

from .configuration_v2l import V2LConfig

PREFIX_LOSSES = ("all", "random", "none")
# What the look-up by plain distance to frozen words cannot do without, and why.
REQUIRED = {
    "local_projector": (False, "SPAE compares latents with the words' embeddings themselves"),
    "local_codebook_trainable": (False, "SPAE's codebook stays as it is, so that its entries stay words"),
    "cross_attention": (None, "SPAE's decoder sees nothing but the tokens"),
}


class SPAEConfig(V2LConfig):
    """Describes a `SPAEModel`: a `V2LConfig` whose local half writes layers of tokens, coarse to fine.

    Its own defaults among the fields of `V2LConfig`: `local_projector` False, `normalize_latents` False (the latents'
    length is learned, since a remainder that is quantized again has no fixed one) and `commitment_loss_weight` 0.25
    (VQGAN's; SPAE's is not known here).

    Args:
        layer_sizes: Rows, and columns, of each layer of tokens, coarse to fine. The last is the grid's side S; each
            divides S by a power of two. (S,) is a plain map of tokens, as V2L's table 4 has it.
        semantic_layers: How many of the first layers are pulled to words that suit the image.
        semantic_weight: Weight of that loss; 0 for none. It needs an image tower.
        semantic_thresholds: One for each of those layers, in (0, 1]: a word suits from this similarity on, where 0 is
            the image's least and 1 its most similar word. Higher in upper layers, which have room for few words.
        prefix_losses: Whether also the images of shorter pyramids are to be like the original, of those that end with
            a layer of S x S tokens: "all", their mean; "random", one drawn for each batch, at the cost of one more
            pass of the decoder; "none".
        **kwargs: Fields of `V2LConfig`.

    Raises:
        ValueError: If a value contradicts another; the message names both.
    """

    model_type = "spae"

    def __init__(
        self,
        layer_sizes: Sequence[int] = (1, 2, 4, 8, 16, 16, 16, 16),
        semantic_layers: int = 5,
        semantic_weight: float = 1.0,
        semantic_thresholds: Sequence[float] = (0.98, 0.95, 0.9, 0.85, 0.8),
        prefix_losses: str = "all",
        **kwargs,
    ):
        for name, (value, reason) in REQUIRED.items():
            if kwargs.setdefault(name, value) != value:
                raise ValueError(f"{name} is {kwargs[name]!r}, but {reason}: set it to {value!r}.")
        kwargs.setdefault("normalize_latents", False)
        kwargs.setdefault("commitment_loss_weight", 0.25)
        super().__init__(**kwargs)
        check_layers(layer_sizes, self.grid_size[0])
        if not 1 <= semantic_layers <= len(layer_sizes):
            raise ValueError(
                f"semantic_layers is {semantic_layers}, but there are {len(layer_sizes)} layers to guide: choose a "
                f"number from 1 to {len(layer_sizes)}, or semantic_weight 0 for no guidance."
            )
        if len(semantic_thresholds) != semantic_layers:
            raise ValueError(
                f"There are {len(semantic_thresholds)} semantic_thresholds, but semantic_layers is {semantic_layers}: "
                "give one for each of these layers."
            )
        if not all(0 < threshold <= 1 for threshold in semantic_thresholds):
            raise ValueError(
                f"semantic_thresholds are {list(semantic_thresholds)}, but similarities are scaled to lie between 0 "
                "and 1: choose values above 0 and up to 1."
            )
        if semantic_weight < 0:
            raise ValueError(
                f"semantic_weight is {semantic_weight}, which would drive layers away from the words that suit: "
                "choose 0 for no guidance, or more."
            )
        if prefix_losses not in PREFIX_LOSSES:
            raise ValueError(f"prefix_losses must be one of {', '.join(PREFIX_LOSSES)}, got {prefix_losses!r}.")
        has_guidance = self.encoder_type is not None and semantic_weight > 0
        if has_guidance and self.local_codebook_size is not None and self.local_embedding_dim != self.embedding_dim:
            raise ValueError(
                f"The image tower's embeddings are {self.embedding_dim} wide, the local codebook's "
                f"{self.local_embedding_dim}, so no word can be said to suit an image: take a codebook of texts "
                "embedded by the tower's own encoder, or semantic_weight 0."
            )
        self.layer_sizes = list(layer_sizes)
        self.semantic_layers = semantic_layers
        self.semantic_weight = semantic_weight
        self.semantic_thresholds = list(semantic_thresholds)
        self.prefix_losses = prefix_losses

    @property
    def token_counts(self) -> tuple[int, ...]:
        """Tokens of the first layer, of the first two, and so on."""
        squares = [size**2 for size in self.layer_sizes]
        return tuple(sum(squares[: layer + 1]) for layer in range(len(squares)))

    @property
    def image_seq_length(self) -> int:
        """The tokens of an image, of all layers."""
        return self.token_counts[-1]


def check_layers(layer_sizes: Sequence[int], side: int) -> None:
    """Refuses layers that are no pyramid over a grid of `side` x `side` positions.

    Raises:
        ValueError: If there is none, one is smaller than the one before, one does not divide the side by a power of
            two, or the last is not as large as the grid.
    """
    sizes = list(layer_sizes)
    if not sizes or sizes[-1] != side:
        raise ValueError(
            f"layer_sizes are {sizes}, but image_size and downsampling factor make a grid of {side} x {side}, which "
            f"the last layer has to fill: end them with {side}."
        )
    for size, following in zip(sizes, [*sizes[1:], side], strict=True):
        step = side // size if size > 0 else 0
        if size < 1 or side % size or step & (step - 1):
            raise ValueError(
                f"layer_sizes has {size}, but a layer takes every row, every 2nd, every 4th, ... of the grid's {side}: "
                f"choose {side} divided by a power of two."
            )
        if following < size:
            raise ValueError(
                f"layer_sizes has {following} behind {size}, but layers go from coarse to fine: put them in order."
            )


__all__ = ["SPAEConfig"]
