"""How different two images look: distances between the features that a frozen network has of them."""

import warnings
from abc import ABC, abstractmethod

import torch

from ..errors import UserError
from ..references import LOADING_ERRORS
from .frozen import FrozenModule, check_images, enlarge, hub_checkpoint
from .offline_tower import NAME, OfflineTower, load_offline_tower

# Inside the square root, so that the gradient stays finite where all channels are zero.
EPSILON = 1e-10
# Backbones of the lpips package, the training loss of VQGAN first, with the files of torchvision's weights.
LPIPS_BACKBONES = {
    "vgg": "vgg16-397923af.pth",
    "alex": "alexnet-owt-7be5be79.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}


class PerceptualDistance(FrozenModule, ABC):
    """A frozen, differentiable distance between images.

    Args:
        name: What it is called wherever its numbers are reported.
        resolution: Pixels that the shorter side is enlarged to before the network looks; None leaves images as they
            are, which is much faster on small ones.
    """

    def __init__(self, name: str, resolution: int | None = None):
        super().__init__()
        self.name = name
        self.resolution = resolution

    @abstractmethod
    def distances(self, images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """The distance of each pair: two [B, 3, H, W] float32 -> [B] float32."""

    def forward(self, images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """Measures images against references.

        Computes in float32, under autocast too. Values beyond [-1, 1] are not refused: a decoder in training may
        overshoot. Gradients reach `images` only.

        Args:
            images: [B, 3, H, W], any float dtype, in [-1, 1].
            references: As `images`.

        Returns:
            [B] float32, 0 for equal images; larger is farther.

        Raises:
            UserError: If the shapes differ or are no batches of RGB images.
        """
        if images.shape != references.shape:
            raise UserError(
                f"Images {list(images.shape)} and references {list(references.shape)} differ in shape, so they cannot "
                "be compared pair by pair: resize or crop one like the other."
            )
        with torch.autocast(images.device.type, enabled=False):
            pair = [images.float(), references.detach().float()]
            if self.resolution is not None:
                pair = [enlarge(picture, self.resolution) for picture in pair]
            check_images(pair[0])
            return self.distances(*pair)


class OfflineTowerDistance(PerceptualDistance):
    """Distance in the features of the offline image tower, all layers weighted alike.

    The unlearned form of LPIPS (Zhang et al. 2018, https://arxiv.org/abs/1801.03924, equation 1 with w = 1): features
    of every depth, each position's channels scaled to unit length, squared difference, mean over positions, sum over
    layers. Each of the five layers adds 0 to 4.

    Args:
        tower: The network.
        resolution: As for `PerceptualDistance`.
    """

    def __init__(self, tower: OfflineTower, resolution: int | None = None):
        super().__init__(f"{NAME}-distance", resolution)
        self.tower = tower
        self.freeze()

    def distances(self, images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            targets = [unit_channels(layer) for layer in self.tower.layers(references)]
        layers = [unit_channels(layer) for layer in self.tower.layers(images)]
        parts = [
            (layer - target).square().sum(dim=1).mean(dim=(1, 2)) for layer, target in zip(layers, targets, strict=True)
        ]
        return torch.stack(parts).sum(dim=0)


class LpipsDistance(PerceptualDistance):
    """LPIPS 0.1 of the `lpips` package, with its learned weights.

    Args:
        backbone: "vgg", "alex" or "squeeze"; part of the name, because their numbers cannot be compared.
        resolution: As for `PerceptualDistance`.
    """

    def __init__(self, backbone: str, resolution: int | None = None):
        super().__init__(f"lpips-{backbone}", resolution)
        import lpips  # optional

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the package calls torchvision as it was in 2021
            # left to itself, the package would download the backbone, and unpickle whatever lies in its place
            self.network = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
        weights = torch.load(hub_checkpoint(LPIPS_BACKBONES[backbone]), weights_only=True, map_location="cpu")
        # "slice2.5.weight" of the package is "features.5.weight" of torchvision
        slices = {name: f"features.{name.split('.', 1)[1]}" for name in self.network.net.state_dict()}
        self.network.net.load_state_dict({name: weights[place] for name, place in slices.items()})
        self.freeze()

    def distances(self, images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        return self.network(images, references).flatten()


def unit_channels(features: torch.Tensor) -> torch.Tensor:
    """Scales the channels of each position to unit length: [B, C, h, w] -> the same."""
    return features * (features.square().sum(dim=1, keepdim=True) + EPSILON).rsqrt()


def reachable_lpips() -> list[str]:
    """Backbones of LPIPS whose weights lie on this machine; empty without the `lpips` package."""
    try:
        import lpips  # noqa: F401  (optional)
    except ImportError:
        return []
    return [name for name, file in LPIPS_BACKBONES.items() if hub_checkpoint(file).is_file()]


def load_perceptual_distance(
    kind: str = "auto",
    device: str | torch.device = "cpu",
    *,
    backbone: str | None = None,
    resolution: int | None = None,
) -> PerceptualDistance:
    """Loads a perceptual distance; nothing is ever downloaded.

    Args:
        kind: "lpips"; "offline-tower"; or "auto", LPIPS where its weights are at hand and the offline tower elsewhere.
        device: Where to put it.
        backbone: Of LPIPS: "vgg", "alex" or "squeeze"; the first of them whose weights are at hand by default.
        resolution: Pixels that the shorter side is enlarged to; None measures images at their own size.

    Returns:
        A distance whose `name` says which it is: "lpips-vgg", "lpips-alex", "lpips-squeeze" or
        "offline-tower-distance".

    Raises:
        UserError: If the kind is unknown, or what it needs is not on this machine.
    """
    if kind not in ("auto", "lpips", NAME):
        raise UserError(f"{kind!r} is no perceptual distance: use 'auto', 'lpips' or '{NAME}'.")
    if backbone is not None and backbone not in LPIPS_BACKBONES:
        raise UserError(f"{backbone!r} is no backbone of LPIPS: use one of {', '.join(LPIPS_BACKBONES)}.")
    found = [] if kind == NAME else [name for name in reachable_lpips() if backbone in (None, name)]
    if found:
        try:
            distance: PerceptualDistance = LpipsDistance(found[0], resolution)
        except LOADING_ERRORS as error:
            path = hub_checkpoint(LPIPS_BACKBONES[found[0]])
            raise UserError(
                f"{path} could not be read ({type(error).__name__}): remove it and fetch it again."
            ) from error
    elif kind == "lpips":
        wanted = " or ".join(LPIPS_BACKBONES[name] for name in ([backbone] if backbone else LPIPS_BACKBONES))
        raise UserError(
            f"LPIPS needs the package lpips and torchvision's weights ({wanted}) in {hub_checkpoint('')}, and not both "
            f"are there: `pip install lpips` and put the file there, or use '{NAME}'."
        )
    else:
        distance = OfflineTowerDistance(load_offline_tower(), resolution)
    return distance.to(device)
