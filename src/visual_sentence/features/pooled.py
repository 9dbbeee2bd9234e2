"""One vector an image, of which the Fréchet distance between two sets of images is made."""

from abc import ABC, abstractmethod

import torch
from torch.nn import functional as F

from ..errors import UserError
from ..references import LOADING_ERRORS
from .frozen import FrozenModule, check_images, hub_checkpoint
from .offline_tower import NAME, OfflineTower, load_offline_tower

# The weights that define FID, as torch-fidelity names the file; converted from the TensorFlow network of 2015.
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"


class PooledFeatures(FrozenModule, ABC):
    """A frozen network that sees an image as one vector.

    Args:
        name: What the Fréchet distance of these features is called wherever it is reported.
        dim: D, the length of the vector.
    """

    def __init__(self, name: str, dim: int):
        super().__init__()
        self.name = name
        self.dim = dim

    @abstractmethod
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The vectors: [B, 3, H, W] float32 in [-1, 1] -> [B, D] float32."""

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the vectors, in float32 under autocast too.

        Args:
            images: [B, 3, H, W], any float dtype, any size, in [-1, 1]; values beyond are clipped.

        Returns:
            [B, D] float32, without gradient.

        Raises:
            UserError: If the shape is no batch of RGB images.
        """
        check_images(images, min_size=1)
        with torch.autocast(images.device.type, enabled=False):
            return self.features(images.float().clamp(-1, 1))


class OfflineTowerFeatures(PooledFeatures):
    """Pooled features of the offline image tower.

    The whole image is resized to the tower's own working resolution, as Inception's is to 299 x 299 for FID.

    Args:
        tower: The network.
    """

    def __init__(self, tower: OfflineTower):
        super().__init__(f"{NAME}-frechet-distance", tower.dim)
        self.tower = tower
        self.freeze()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        size = [self.tower.resolution] * 2
        if list(images.shape[2:]) != size:
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
        return self.tower.pooled(images)


class InceptionFeatures(PooledFeatures):
    """The 2048 features of FID (Heusel et al. 2017, https://arxiv.org/abs/1706.08500), by torch-fidelity.

    Args:
        weights: File of the converted weights.
    """

    def __init__(self, weights: str):
        super().__init__("fid", 2048)
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # optional

        self.network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], weights)
        self.freeze()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        # the extractor takes 8-bit images and resizes them itself
        (features,) = self.network(((images + 1) * 127.5).round().to(torch.uint8))
        return features


def inception_is_reachable() -> bool:
    """Whether torch-fidelity is installed and the weights that define FID lie on this machine."""
    try:
        import torch_fidelity.feature_extractor_inceptionv3  # noqa: F401  (optional)
    except ImportError:
        return False
    return hub_checkpoint(INCEPTION_FILE).is_file()


def load_frechet_features(kind: str = "auto", device: str | torch.device = "cpu") -> PooledFeatures:
    """Loads the features for a Fréchet distance; nothing is ever downloaded.

    Args:
        kind: "inception", for FID; "offline-tower"; or "auto", Inception where its weights are at hand and the offline
            tower elsewhere.
        device: Where to put it.

    Returns:
        Features whose `name` says what their Fréchet distance is: "fid" or "offline-tower-frechet-distance".

    Raises:
        UserError: If the kind is unknown, or what it needs is not on this machine.
    """
    if kind not in ("auto", "inception", NAME):
        raise UserError(f"{kind!r} gives no features for a Fréchet distance: use 'auto', 'inception' or '{NAME}'.")
    path = hub_checkpoint(INCEPTION_FILE)
    if kind != NAME and inception_is_reachable():
        try:
            features: PooledFeatures = InceptionFeatures(str(path))
        except LOADING_ERRORS as error:
            raise UserError(
                f"{path} could not be read ({type(error).__name__}): remove it and fetch it again."
            ) from error
    elif kind == "inception":
        raise UserError(
            f"FID needs the package torch-fidelity and its weights {path}, and not both are there: "
            f"`pip install torch-fidelity` and put the file there, or use '{NAME}'."
        )
    else:
        features = OfflineTowerFeatures(load_offline_tower())
    return features.to(device)
