"""The Fréchet distance between two sets of vectors, each described by its mean and covariance."""

import numpy as np
import torch

from ..errors import UserError

Array = torch.Tensor | np.ndarray


class FrechetStatistics:
    """Mean and covariance of vectors that come in batches, in float64.

    Batches are joined by the formula of Chan et al. (1979), which loses no digits however many come, and in whatever
    pieces they come the result is the same to rounding.

    Args:
        dim: D, the length of a vector.
    """

    def __init__(self, dim: int):
        self.dim = dim
        self.n = 0
        self._mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)

    def update(self, features: Array) -> None:
        """Adds vectors.

        Args:
            features: [B, D], any float dtype.

        Raises:
            UserError: If the shape is another, or a value is not finite.
        """
        features = torch.as_tensor(features).detach().cpu().double()
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise UserError(
                f"Features must be [B, {self.dim}], found {list(features.shape)}: take all of them from one network."
            )
        if not features.isfinite().all():
            raise UserError("Found NaN or infinite features, of which no distance can be made: check the images.")
        if len(features):
            mean = features.mean(dim=0)
            centred = features - mean
            self._join(len(features), mean, centred.T @ centred)

    def merge(self, other: "FrechetStatistics") -> None:
        """Adds the vectors that `other` has seen, for example in another process.

        Raises:
            UserError: If the vectors are of another length.
        """
        if other.dim != self.dim:
            raise UserError(f"Statistics of {self.dim} and of {other.dim} features cannot be merged: use one network.")
        if other.n:
            self._join(other.n, other._mean, other._scatter)

    def _join(self, n: int, mean: torch.Tensor, scatter: torch.Tensor) -> None:
        delta, total = mean - self._mean, self.n + n
        self._scatter = self._scatter + scatter + torch.outer(delta, delta) * (self.n * n / total)
        self._mean = self._mean + delta * (n / total)
        self.n = total

    @property
    def mean(self) -> torch.Tensor:
        """[D] float64."""
        return self._mean.clone()

    @property
    def cov(self) -> torch.Tensor:
        """[D, D] float64, divided by n - 1 as in FID.

        Raises:
            UserError: If fewer than two vectors were added.
        """
        if self.n < 2:
            raise UserError(f"Found {self.n} image(s), but a covariance needs at least 2: give more images.")
        return self._scatter / (self.n - 1)


def frechet_distance(mean_a: Array, cov_a: Array, mean_b: Array, cov_b: Array) -> float:
    """Squared 2-Wasserstein distance between two normal distributions.

    |mean_a - mean_b|^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)), Heusel et al. 2017
    (https://arxiv.org/abs/1706.08500), section 3; Dowson and Landau 1982. The trace of the root is the sum of the
    singular values of cov_a^(1/2) cov_b^(1/2), whose factors come from symmetric eigen-decompositions: real and exact
    for singular covariances too, which fewer images than features always give and which make it quicker.

    Args:
        mean_a: [D], any float dtype; computed in float64.
        cov_a: [D, D], symmetric, no negative eigenvalues.
        mean_b: As `mean_a`.
        cov_b: As `cov_a`.

    Returns:
        At least 0, in squared units of the features; 0 for equal distributions.
    """
    mean_a, cov_a, mean_b, cov_b = (torch.as_tensor(part).cpu().double() for part in (mean_a, cov_a, mean_b, cov_b))
    # rotations do not change singular values, so the roots' own axes will do
    root = torch.linalg.svdvals(_scaled_axes(cov_a).T @ _scaled_axes(cov_b)).sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * root
    return max(float(distance), 0.0)  # equal sets give 0 up to rounding of either sign


def _scaled_axes(matrix: torch.Tensor) -> torch.Tensor:
    """Axes [D, r] of a symmetric matrix of rank r without negative eigenvalues, as long as the eigenvalues' roots."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    kept = values > values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()
