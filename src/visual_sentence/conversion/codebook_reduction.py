"""A SimLVM with fewer codes: near codes become one, and the language model's rows of them are put together.

SimLVM's table 1 has smaller codebooks that collapse. Beyond the paper: k-means over the codes, each weighed by how
often it is used (Lloyd 1982; Arthur & Vassilvitskii 2007 for the start), which also says which rows of embeddings and
head belong together, so that the language model knows the new tokens before it is tuned on them.
"""

from copy import deepcopy

import torch
from torch import nn

from ..errors import UserError
from ..modeling import SimLVMConfig, SimLVMForVisualSentence

ITERATIONS = 100
# What a code that was never seen weighs, as a share of the mean: it belongs somewhere, but pulls nothing.
UNSEEN = 1e-3


def cluster_codes(
    codes: torch.Tensor, counts: torch.Tensor, size: int, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted k-means of a codebook.

    Args:
        codes: [K, D] float.
        counts: [K], how often each code is used.
        size: S, codes that are wanted, at most K.
        seed: Of the start.

    Returns:
        Centroids [S, D] float32, and for each code its centroid, [K] int64 in [0, S); no centroid is empty.

    Raises:
        UserError: If S is not from 1 to K.
    """
    if not 1 <= size <= len(codes):
        raise UserError(f"A codebook of {len(codes)} cannot be reduced to {size} codes: give 1 to {len(codes)}.")
    points = codes.detach().double().cpu()
    weights = counts.detach().double().cpu()
    weights = weights + UNSEEN * (weights.mean() if weights.sum() > 0 else 1.0)
    generator = torch.Generator().manual_seed(seed)
    centroids = _distant_points(points, weights, size, generator)
    members = torch.full((len(points),), -1)
    for _ in range(ITERATIONS):
        distances = torch.cdist(points, centroids)
        found = distances.argmin(dim=1)
        _fill_empty(found, distances.gather(1, found[:, None])[:, 0] * weights, size)
        if torch.equal(found, members):
            break
        members = found
        centroids = weighted_means(points, weights, members, size)
    return centroids.float(), members


def _distant_points(points: torch.Tensor, weights: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """k-means++: [S, D] points, each drawn the likelier the farther it lies from those before."""
    chosen = [int(torch.multinomial(weights, 1, generator=generator))]
    nearest = (points - points[chosen[0]]).square().sum(1)
    for _ in range(size - 1):
        chances = weights * nearest
        if chances.sum() <= 0:  # fewer different codes than are wanted
            chances = torch.ones_like(weights).index_fill(0, torch.tensor(chosen), 0.0)
        chosen.append(int(torch.multinomial(chances, 1, generator=generator)))
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(1))
    return points[chosen]


def _fill_empty(members: torch.Tensor, costs: torch.Tensor, size: int) -> None:
    """Gives each empty cluster, in place, the costliest point of a cluster with others."""
    sizes = torch.bincount(members, minlength=size)
    order = iter(costs.argsort(descending=True, stable=True).tolist())
    for empty in (sizes == 0).nonzero().flatten().tolist():
        point = next(point for point in order if sizes[members[point]] > 1)
        sizes[members[point]] -= 1
        members[point], sizes[empty] = empty, 1


def weighted_means(rows: torch.Tensor, weights: torch.Tensor, members: torch.Tensor, size: int) -> torch.Tensor:
    """Means [S, D], in the dtype of `rows`, of the rows [K, D] of each cluster."""
    weights = weights.to(torch.float64)[:, None]
    sums = rows.new_zeros(size, rows.shape[1], dtype=torch.float64).index_add_(0, members, rows.double() * weights)
    totals = torch.zeros(size, 1, dtype=torch.float64).index_add_(0, members, weights)
    return (sums / totals).to(rows.dtype)


@torch.no_grad()
def reduce_codebook(
    model: SimLVMForVisualSentence, counts: torch.Tensor, size: int, seed: int = 0
) -> tuple[SimLVMForVisualSentence, torch.Tensor]:
    """A model of S codes out of one of K; everything else is the same.

    Args:
        model: With a learned codebook; left as it is.
        counts: [K], how often each image token occurs in what the model is to be used on.
        size: S.
        seed: Of the clustering.

    Returns:
        The new model, and the remap table [K] int64 from old tokens to new ones.

    Raises:
        UserError: If the codebook is not learned, or S is not from 1 to K.
    """
    config = model.config
    if config.vq_config.codebook != "learned":
        raise UserError(
            f"This model's codebook is {config.vq_config.codebook!r}, its codes follow from a trained layer: only a "
            "learned codebook is reduced."
        )
    old = config.codebook_size
    centroids, members = cluster_codes(model.vqgan.quantizer.codebook, counts, size, seed)
    weights = counts.double().cpu() + UNSEEN * max(float(counts.double().mean()), 1e-12)
    first, shift = config.image_token_offset, old - size

    def merge(rows: torch.Tensor) -> torch.Tensor:
        """Rows by image token [K, H] as [S, H]."""
        return weighted_means(rows, weights, members, size)

    def merge_table(rows: torch.Tensor) -> torch.Tensor:
        """Rows by id [V, H] as [V - K + S, H]."""
        return torch.cat([rows[:first], merge(rows[first : first + old]), rows[first + old :]])

    reduced = SimLVMForVisualSentence(_reduced_config(config, size, shift))
    tables = _tables(model)
    state = {}
    for name, tensor in model.state_dict().items():
        if name == "vqgan.quantizer.codebook" or name.endswith((".codes", "aligned_embedding.codes")):
            state[name] = centroids.to(tensor.dtype)
        elif name in tables:
            state[name] = merge_table(tensor) if tables[name] else merge(tensor)
        else:
            state[name] = tensor
    reduced.load_state_dict(state)
    return reduced.eval(), members


def _reduced_config(config: SimLVMConfig, size: int, shift: int) -> SimLVMConfig:
    fields = deepcopy(config.to_dict())
    end = config.image_token_offset + config.codebook_size
    fields["vq_config"]["codebook_size"] = size
    fields["text_config"]["vocab_size"] -= shift
    fields["special_token_ids"] = {
        name: number - shift if number >= end else number for name, number in config.special_token_ids.items()
    }
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):  # no text is written: those of images say nothing
        number = fields["text_config"].get(name)
        if isinstance(number, int) and number >= config.image_token_offset:
            fields["text_config"][name] = number - shift if number >= end else None
    return SimLVMConfig.from_dict(fields)


def _tables(model: SimLVMForVisualSentence) -> dict[str, bool]:
    """Names of tensors with a row for each token: True where for each id of the vocabulary, else for image tokens."""
    found: dict[str, bool] = {}
    language_model = model.language_model
    of_ids = [language_model.get_input_embeddings(), language_model.get_output_embeddings()]
    for name, module in model.named_modules():
        if module in of_ids and isinstance(module, (nn.Embedding, nn.Linear)):
            found[f"{name}.weight"] = True
            if getattr(module, "bias", None) is not None:
                raise UserError("The language model's head has a bias, which is not put together: none of ours has.")
    aligned = model.aligned_embedding
    if isinstance(aligned, nn.Embedding):
        found["aligned_embedding.weight"] = False
    elif aligned is not None:
        found["aligned_embedding.embedding.weight"] = False
    return found


__all__ = ["cluster_codes", "reduce_codebook", "weighted_means"]
