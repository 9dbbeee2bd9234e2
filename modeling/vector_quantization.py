"""The vector quantizer of both image models: latents become entries of a codebook, and gradients pass through.

Sources: VQ-VAE, van den Oord et al. 2017 (https://arxiv.org/abs/1711.00937), equation 3; V2L Tokenizer, Zhu et al.
2024 (https://arxiv.org/abs/2403.07874), section 3.2 and appendix A, for the frozen codebook behind a trainable
projector; SimVQ, Zhu et al. 2024 (https://arxiv.org/abs/2411.02038), which finds the same layout good for a random
codebook; rotation trick, Fifty et al. 2024 (https://arxiv.org/abs/2410.06424), section 4. Level 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.utils import ModelOutput

from .nearest_code import nearest_codes

GRADIENTS = ("straight-through", "rotation")
# Default of fields that are always given: an output's fields need one.
GIVEN: Any = None


@dataclass
class VectorQuantizerOutput(ModelOutput):
    """What a quantizer makes of B maps of h x w latents.

    Args:
        quantized: [B, D, h, w] in the latents' dtype, the chosen entries; carries the gradient for the encoder.
        tokens: [B, h, w] int64 in [0, K), the entries' indices.
        codebook_loss: Scalar float32, mean squared distance, moving the entries (or their projector) only.
        commitment_loss: Scalar float32 of the same value, moving the latents only.
        codebook_usage: Scalar float32 in (0, 1], share of the K entries that these latents use.
        codebook_perplexity: Scalar float32 in [1, K], exp of the entropy of the entries' frequencies.
    """

    quantized: torch.Tensor = GIVEN
    tokens: torch.Tensor = GIVEN
    codebook_loss: torch.Tensor = GIVEN
    commitment_loss: torch.Tensor = GIVEN
    codebook_usage: torch.Tensor = GIVEN
    codebook_perplexity: torch.Tensor = GIVEN


class VectorQuantizer(nn.Module):
    """A codebook of K entries of width E, seen by latents of width D.

    The two loss terms come unweighted. VQ-VAE and the V2L paper put the small weight beta on the commitment term;
    taming-transformers' quantizer, and what was copied from it, puts it on the codebook term. The models' configs
    name both weights, so that it is plain which loss is meant.

    Args:
        codebook_size: K.
        embedding_dim: E, width of the stored entries.
        latent_dim: D, width of the latents; other than E only with a projector.
        trainable: Whether the entries are trained; otherwise they are a buffer.
        projector: Whether entries pass a trainable linear layer E -> D before they are compared and used.
        projector_bias: Whether that layer has a bias (V2L's published code: yes; SimVQ: no).
        gradient: "straight-through" (VQ-VAE, section 3.2) or "rotation": the gradient is turned and scaled as the
            latent was on its way to its entry.

    Raises:
        ValueError: If the widths differ without a projector, or `gradient` is neither.
    """

    codebook: torch.Tensor
    projector: nn.Linear | None

    def __init__(
        self,
        codebook_size: int,
        embedding_dim: int,
        latent_dim: int | None = None,
        trainable: bool = True,
        projector: bool = False,
        projector_bias: bool = True,
        gradient: str = "straight-through",
    ):
        super().__init__()
        latent_dim = embedding_dim if latent_dim is None else latent_dim
        if latent_dim != embedding_dim and not projector:
            raise ValueError(
                f"The codebook is {embedding_dim} wide, the latents {latent_dim}: without a projector both must agree."
            )
        if gradient not in GRADIENTS:
            raise ValueError(f"quantizer_gradient must be one of {', '.join(GRADIENTS)}, got {gradient!r}.")
        self.gradient = gradient
        entries = torch.zeros(codebook_size, embedding_dim)
        if trainable:
            self.codebook = nn.Parameter(entries)
        else:
            self.register_buffer("codebook", entries)
        self.projector = nn.Linear(embedding_dim, latent_dim, bias=projector_bias) if projector else None
        if self.projector is not None:  # told apart for who starts modules one by one: `reset_parameters` sees to it
            vars(self.projector)["is_projector"] = True
        self._projection_cache: _ProjectionCache | None = None

    def reset_parameters(self) -> None:
        """Random start through transformers' guarded setters, which leave loaded tensors alone."""
        std = self.codebook.shape[1] ** -0.5
        init.normal_(self.codebook, std=std)  # entries of length about 1
        if self.projector is not None:
            init.normal_(self.projector.weight, std=std)
            if self.projector.bias is not None:
                init.zeros_(self.projector.bias)

    @torch.no_grad()
    def fit_to(self, latents: torch.Tensor, generator: torch.Generator | None = None) -> None:
        """Moves the codes to where the latents are, so that training begins with most of the codebook in use.

        At a random start the latents lie close together and far from nearly all codes, which then are never chosen
        and never moved. Entries that are trained are drawn from the latents themselves; frozen entries stay as they
        are, and their projector becomes the linear map that gives them the latents' mean and covariance (without a
        bias, their second moments). Not part of the papers.

        Args:
            latents: [B, D, h, w] of some thousand positions, finite.
            generator: What trained entries are drawn with, on the CPU.

        Raises:
            ValueError: If the codebook is frozen and has no projector.
        """
        if self.projector is None and not isinstance(self.codebook, nn.Parameter):
            raise ValueError("The codebook is frozen and has no projector, so it cannot be moved to the latents.")
        rows = latents.detach().permute(0, 2, 3, 1).reshape(-1, latents.shape[1]).float()
        if self.projector is None:
            picks = torch.randint(len(rows), (len(self.codebook),), generator=generator)
            spread = torch.randn(self.codebook.shape, generator=generator).to(rows) * rows.std(0)
            self.codebook.copy_(rows[picks.to(rows.device)] + 0.1 * spread)  # no two entries the same
            return
        bias = self.projector.bias
        centred = bias is not None
        code_mean, code_axes, code_scales = _principal_axes(self.codebook, centred)
        mean, axes, scales = _principal_axes(rows, centred)
        shared = min(len(scales), len(code_scales))
        weight = (axes[:, :shared] * (scales[:shared] / code_scales[:shared].clamp_min(1e-12))) @ code_axes[
            :, :shared
        ].T
        self.projector.weight.copy_(weight)
        if bias is not None:
            bias.copy_(mean - weight @ code_mean)

    def forward(self, latents: torch.Tensor) -> VectorQuantizerOutput:
        """Replaces each latent by the nearest entry, in float32 also under autocast.

        Args:
            latents: [B, D, h, w], any float dtype.

        Raises:
            ValueError: If a latent is not finite.
        """
        with torch.autocast(latents.device.type, enabled=False):
            exact = latents.float()
            tokens = self.assign(exact)
            quantized = self.lookup(tokens)
            codebook_loss = F.mse_loss(quantized, exact.detach())
            commitment_loss = F.mse_loss(exact, quantized.detach())
            if torch.is_grad_enabled():
                route = _rotate if self.gradient == "rotation" else _pass_straight
                quantized = route(exact, quantized.detach())
        usage, perplexity = codebook_statistics(tokens, self.codebook.shape[0])
        return VectorQuantizerOutput(
            quantized.to(latents.dtype), tokens, codebook_loss, commitment_loss, usage, perplexity
        )

    def assign(self, latents: torch.Tensor) -> torch.Tensor:
        """Tokens [B, h, w] int64 of latents [B, D, h, w]: the nearest entry, the first of equals."""
        batch, width, height, length = latents.shape
        rows = latents.permute(0, 2, 3, 1)
        # in parts of whole images, since a view of all latents as rows would copy all of them
        images = max(1, (4 << 20) // (width * height * length))
        codes, project = self._codes_to_search()
        parts = [nearest_codes(part.reshape(-1, width), codes, project) for part in rows.split(images)]
        return torch.cat(parts).view(batch, height, length)

    def lookup(self, tokens: torch.Tensor) -> torch.Tensor:
        """Entries [B, D, h, w] float32 of tokens [B, h, w] int64, with the gradient for codebook and projector.

        Raises:
            ValueError: If a token is outside [0, K).
        """
        size = self.codebook.shape[0]
        low, high = (int(bound) for bound in torch.aminmax(tokens)) if tokens.numel() else (0, 0)
        if low < 0 or high >= size:
            raise ValueError(
                f"Image tokens must lie in [0, {size}), found {low if low < 0 else high}: these may be ids of another "
                "vocabulary."
            )
        entries = self._project(F.embedding(tokens, self.codebook.float()))
        return entries.permute(0, 3, 1, 2)

    def _project(self, entries: torch.Tensor) -> torch.Tensor:
        if self.projector is None:
            return entries
        bias = self.projector.bias
        return F.linear(entries, self.projector.weight.float(), None if bias is None else bias.float())

    def _codes_to_search(self) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor] | None]:
        """The entries to compare with, and how each tile of them is projected first.

        In evaluation the projected entries are kept until a weight changes; in training they change with each step.
        """
        if self.projector is None:
            return self.codebook, None
        if self.training:
            return self.codebook, self._project
        if self._projection_cache is None or not self._projection_cache.is_valid(self):
            with torch.no_grad():
                self._projection_cache = _ProjectionCache(self)
        return self._projection_cache.entries, None

    @torch.no_grad()
    def fold_projector(self) -> None:
        """Keeps the projected entries [K, D] in place of the entries [K, E] and their projector.

        Tokens and codes stay the same; nothing of the codebook can be trained afterwards.
        """
        if self.projector is None:
            return
        entries = _ProjectionCache(self).entries
        del self.codebook
        self.register_buffer("codebook", entries)
        self.projector = self._projection_cache = None

    def train(self, mode: bool = True) -> "VectorQuantizer":
        if mode:
            self._projection_cache = None
        return super().train(mode)

    def _apply(self, fn, recurse=True):
        self._projection_cache = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_projection_cache": None}


class _ProjectionCache:
    """All projected entries [K, D] of a quantizer, and by what to see whether they still hold."""

    def __init__(self, quantizer: VectorQuantizer):
        codebook = quantizer.codebook
        self.entries = torch.cat([quantizer._project(tile.float()) for tile in codebook.split(4096)])
        self._codebook = codebook.data_ptr(), _version(codebook)
        # compared by value: an optimizer or an averaging of weights may write past the version counter
        self._weights = [parameter.detach().clone() for parameter in _projection_weights(quantizer)]

    def is_valid(self, quantizer: VectorQuantizer) -> bool:
        codebook = quantizer.codebook
        if self._codebook != (codebook.data_ptr(), _version(codebook)):
            return False
        return all(map(torch.equal, self._weights, _projection_weights(quantizer)))


def _projection_weights(quantizer: VectorQuantizer) -> list[nn.Parameter]:
    """What the projected entries are made with."""
    return [] if quantizer.projector is None else list(quantizer.projector.parameters())


def _version(tensor: torch.Tensor) -> int:
    """How often a tensor was written to; tensors made in inference mode are not counted."""
    return 0 if tensor.is_inference() else tensor._version


def codebook_statistics(tokens: torch.Tensor, codebook_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Usage in (0, 1] and perplexity in [1, K] of tokens of any shape, int64 in [0, K); scalars float32."""
    counts = torch.bincount(tokens.flatten(), minlength=codebook_size).float()
    frequencies = counts / counts.sum()
    entropy = torch.special.entr(frequencies).sum()
    return (counts > 0).float().mean(), entropy.exp()


def _principal_axes(rows: torch.Tensor, centred: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean [D], directions [D, D] in columns and standard deviations [D] along them, largest first, of rows [N, D]."""
    rows = rows.double()
    mean = rows.mean(0) if centred else rows.new_zeros(rows.shape[1])
    squares, axes = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    return mean, axes.flip(1), squares.clamp_min(0).sqrt().flip(0)


def _pass_straight(latents: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
    """The entries' values with the latents' gradient unchanged."""
    return latents + (quantized - latents).detach()


def _rotate(latents: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
    """The entries' values with the gradient turned and scaled (rotation trick, equation 4: R = I - 2rr' + 2qe')."""
    length, target = (x.norm(dim=1, keepdim=True).clamp_min(1e-6) for x in (latents.detach(), quantized))
    before, after = latents.detach() / length, quantized / target
    middle = F.normalize(before + after, dim=1, eps=1e-6)
    turned = (
        latents
        - 2 * middle * (middle * latents).sum(1, keepdim=True)
        + 2 * after * (before * latents).sum(1, keepdim=True)
    )
    turned = turned * (target / length)
    # the same value up to rounding, so that what is decoded is exactly the entry
    return turned + (quantized - turned).detach()


__all__ = ["VectorQuantizer", "VectorQuantizerOutput", "codebook_statistics"]
