"""How near reconstructions are to their originals: PSNR and SSIM of images, and their means over many images.

One value contract for all of it: uint8 in [0, 255] or floating point in [0, 1]; anything else is refused. Everything is
computed in float64.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from ..errors import UserError

Images = torch.Tensor | np.ndarray

# ITU-R BT.601 luma of R, G, B in [0, 1], in the 8-bit studio range [16, 235].
LUMA_WEIGHTS = (65.481, 128.553, 24.966)
LUMA_OFFSET = 16.0
# Wang et al. 2004, section III.
SSIM_WINDOW, SSIM_SIGMA, SSIM_K1, SSIM_K2 = 11, 1.5, 0.01, 0.03


def unit_range(images: Images, what: str = "images") -> torch.Tensor:
    """Checks images against the value contract and brings them to [0, 1].

    Args:
        images: [B, 3, H, W], uint8 in [0, 255] or floating point in [0, 1].
        what: What they are, for the message.

    Returns:
        [B, 3, H, W] float64 in [0, 1], on the same device if it knows float64.

    Raises:
        UserError: If the shape, the dtype or the range is another; the range found is named.
    """
    if isinstance(images, np.ndarray) and not images.flags.writeable:
        images = images.copy()  # pictures of PIL come so, and torch warns of them
    images = torch.as_tensor(images).detach()
    if images.device.type == "mps":
        images = images.cpu()  # no float64 there
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise UserError(f"The {what} must be [B, 3, H, W], found {list(images.shape)}: RGB, channels first.")
    if images.dtype == torch.uint8:
        return images.double() / 255
    if not images.is_floating_point():
        raise UserError(f"The {what} must be uint8 or floating point, found {images.dtype}: convert them first.")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise UserError(
            f"Floating-point {what} must lie in [0, 1], found values from {low:g} to {high:g}: bring [-1, 1] there by "
            "(x + 1) / 2, clip what overshoots, give 8-bit values as uint8."
        )
    return images.double()


def _pairs(images: Images, references: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sides in [0, 1], of one shape, on one device."""
    images, references = unit_range(images), unit_range(references, "references")
    if images.shape != references.shape:
        raise UserError(
            f"Images {list(images.shape)} and references {list(references.shape)} differ in shape, so they cannot be "
            "compared pixel by pixel: resize or crop one like the other."
        )
    return images, references.to(images.device)


def luma(images: torch.Tensor) -> torch.Tensor:
    """Y of YCbCr by ITU-R BT.601, unrounded: (16 + 65.481 R + 128.553 G + 24.966 B) / 255.

    Args:
        images: [B, 3, H, W] in [0, 1].

    Returns:
        [B, 1, H, W] in [16 / 255, 235 / 255].
    """
    weights = images.new_tensor(LUMA_WEIGHTS).view(1, 3, 1, 1)
    return ((images * weights).sum(dim=1, keepdim=True) + LUMA_OFFSET) / 255


def psnr(images: Images, references: Images) -> torch.Tensor:
    """Peak signal-to-noise ratio of each image: 10 log10(1 / MSE) over all pixels and channels, peak 1.

    Args:
        images: [B, 3, H, W], by the value contract.
        references: As `images`.

    Returns:
        [B] float64 in dB; infinite for equal images.

    Raises:
        UserError: If shapes or ranges are wrong.
    """
    return _ratio(*_pairs(images, references))


def psnr_y(images: Images, references: Images) -> torch.Tensor:
    """PSNR of the luma alone (see `luma`); the peak stays that of 8 bits, as in the toolboxes that papers use.

    Args:
        images: [B, 3, H, W], by the value contract.
        references: As `images`.

    Returns:
        [B] float64 in dB; infinite for images of equal luma.

    Raises:
        UserError: If shapes or ranges are wrong.
    """
    images, references = _pairs(images, references)
    return _ratio(luma(images), luma(references))


def _ratio(images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    return -10 * torch.log10((images - references).square().mean(dim=(1, 2, 3)))


def ssim(images: Images, references: Images) -> torch.Tensor:
    """Structural similarity of each image (Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861).

    Gaussian window of 11 pixels and sigma 1.5, K1 = 0.01, K2 = 0.03, range 1, population covariances; the mean over
    channels and over the positions where the window lies inside the image, as in the authors' code. Equals scikit-image
    with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`; torchmetrics has the same value at each of
    these positions, but averages over mirrored borders too.

    Args:
        images: [B, 3, H, W], by the value contract, H and W at least 11.
        references: As `images`.

    Returns:
        [B] float64 in [-1, 1].

    Raises:
        UserError: If shapes or ranges are wrong.
    """
    images, references = _pairs(images, references)
    if min(images.shape[2:]) < SSIM_WINDOW:
        raise UserError(
            f"SSIM needs images of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, the size of its window, found "
            f"{images.shape[2]} x {images.shape[3]}."
        )
    rows, columns = (_window_matrix(side, images) for side in images.shape[2:])

    def local_mean(values: torch.Tensor) -> torch.Tensor:
        return rows @ values @ columns.T

    mean_a, mean_b = local_mean(images), local_mean(references)
    variance_a = local_mean(images.square()) - mean_a.square()
    variance_b = local_mean(references.square()) - mean_b.square()
    covariance = local_mean(images * references) - mean_a * mean_b
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_a.square() + mean_b.square() + c1) * (variance_a + variance_b + c2))
    return similarity.mean(dim=(1, 2, 3))


def _window_matrix(side: int, like: torch.Tensor) -> torch.Tensor:
    """The Gaussian window at every position inside `side` pixels: [side - 10, side].

    Products with it are several times as fast as a convolution in float64.
    """
    offsets = torch.arange(SSIM_WINDOW, dtype=like.dtype, device=like.device) - SSIM_WINDOW // 2
    window = torch.exp(-0.5 * (offsets / SSIM_SIGMA).square())
    matrix = like.new_zeros(side - SSIM_WINDOW + 1, side)
    for position, row in enumerate(matrix):
        row[position : position + SSIM_WINDOW] = window / window.sum()
    return matrix


class RunningMean:
    """Mean over images of one number each; values come in batches, parts of several processes are merged.

    Infinite values (the PSNR of equal images) are counted apart: they are not in the mean, unless there are no others.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self.finite = 0
        self.infinite = 0

    def update(self, values: torch.Tensor | np.ndarray | Sequence[float]) -> None:
        """Adds values.

        Args:
            values: [B], one number an image.

        Raises:
            UserError: If one of them is NaN.
        """
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu()
        values = torch.as_tensor(values, dtype=torch.float64).flatten()
        if values.isnan().any():
            raise UserError("Found NaN among the values of a measure, so it has no mean: check the images.")
        finite = values[values.isfinite()]
        self.total += math.fsum(finite.tolist())
        self.finite += len(finite)
        self.infinite += len(values) - len(finite)

    def merge(self, other: "RunningMean") -> None:
        """Adds what `other` has seen, for example in another process."""
        self.total += other.total
        self.finite += other.finite
        self.infinite += other.infinite

    @property
    def n(self) -> int:
        """How many values were added, infinite ones included."""
        return self.finite + self.infinite

    @property
    def mean(self) -> float:
        """The mean of the finite values; infinite if all of them are.

        Raises:
            UserError: If nothing was added.
        """
        if not self.n:
            raise UserError("No images were added, so there is no mean: add some first.")
        return self.total / self.finite if self.finite else math.inf


class ImageQuality:
    """PSNR, PSNR of the luma and SSIM, averaged over images: streaming, mergeable."""

    def __init__(self) -> None:
        self.measures = {"psnr": RunningMean(), "psnr_y": RunningMean(), "ssim": RunningMean()}

    def update(self, images: Images, references: Images) -> None:
        """Adds images.

        Args:
            images: [B, 3, H, W], uint8 in [0, 255] or floating point in [0, 1].
            references: As `images`.

        Raises:
            UserError: If shapes or ranges are wrong.
        """
        # all three first: a refused batch must not be counted in part
        values = {name: measure(images, references) for name, measure in MEASURES.items()}
        for name, part in values.items():
            self.measures[name].update(part)

    def merge(self, other: "ImageQuality") -> None:
        """Adds what `other` has seen, for example in another process."""
        for name, measure in self.measures.items():
            measure.merge(other.measures[name])

    def compute(self) -> dict[str, float | int]:
        """The means.

        Returns:
            `psnr` and `psnr_y` in dB: means over the images whose value is finite; `ssim`; `n` images; `identical`, how
            many were equal to their reference and therefore not in the mean PSNR.

        Raises:
            UserError: If nothing was added.
        """
        means = {name: measure.mean for name, measure in self.measures.items()}
        return {**means, "n": self.measures["psnr"].n, "identical": self.measures["psnr"].infinite}


MEASURES = {"psnr": psnr, "psnr_y": psnr_y, "ssim": ssim}
