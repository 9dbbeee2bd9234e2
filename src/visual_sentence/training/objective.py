"""What is minimised: the model's own terms, the perceptual and the adversarial one; and the discriminator's loss.

Sources: VQGAN, Esser et al. 2021 (https://arxiv.org/abs/2012.09841), section 3.2; V2L Tokenizer, Zhu et al. 2024
(https://arxiv.org/abs/2403.07874), equation 5. Knows both image models by what their outputs have in common.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from PIL import Image
from torch import nn

from ..errors import UserError
from ..modeling import V2LImageProcessor, V2LModel, VQGANModel
from .config import TrainingConfig
from .discriminator import PatchDiscriminator
from .losses import adaptive_weight, adversarial_generator_loss, hinge_discriminator_loss
from .perceptual import load_perceptual_loss
from .pictures import PictureSource

Terms = dict[str, torch.Tensor]


class Judge(nn.Module):
    """The discriminator's step in one forward pass, which is what several processes need to share its gradients.

    Args:
        discriminator: Images [B, 3, H, W] to logits.
    """

    def __init__(self, discriminator: nn.Module):
        super().__init__()
        self.discriminator = discriminator

    def forward(self, real: torch.Tensor, fake: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of both; each is normalised by its own statistics, as in the published codes."""
        return self.discriminator(real), self.discriminator(fake)


class Objective:
    """The losses of an image tokenizer.

    Args:
        config: The run's settings.
        model: The model that is trained, outside of any wrapper.
        device: Where it is.
    """

    def __init__(self, config: TrainingConfig, model: VQGANModel | V2LModel, device: torch.device):
        self.config, self.model = config, model
        kind = config.perceptual if config.perceptual_weight > 0 else "none"
        self.perceptual = load_perceptual_loss(kind, device)
        self.judge: Judge | None = None
        if config.adversarial_weight > 0:
            channels = model.config.num_channels if hasattr(model.config, "num_channels") else 3
            discriminator = PatchDiscriminator(
                channels, config.discriminator_width, config.discriminator_layers, config.norm
            )
            size = model.config.image_size
            if size < discriminator.smallest_size:
                raise UserError(
                    f"The images have {size} pixels a side, the discriminator needs {discriminator.smallest_size}: "
                    "give fewer --discriminator-layers or --adversarial-weight 0."
                )
            self.judge = Judge(discriminator).to(device)

    @property
    def perceptual_name(self) -> str | None:
        """The perceptual measure's true name; None without one."""
        return None if self.perceptual is None else self.perceptual.name

    def is_adversarial(self, step: int) -> bool:
        """Whether the adversarial half takes part in a step."""
        return self.judge is not None and step >= self.config.adversarial_start

    def generator(
        self, output: Any, pixel_values: torch.Tensor, step: int, gradient_scale: float = 1.0
    ) -> tuple[torch.Tensor, Terms]:
        """What the model minimises.

        Args:
            output: The model's output for these images.
            pixel_values: [B, 3, S, S] in [-1, 1].
            step: From 0.
            gradient_scale: The gradient scaler's scale with fp16.

        Returns:
            The loss, and all terms, detached and unweighted.
        """
        terms = {name: output[name] for name in ("reconstruction_loss", "codebook_loss", "commitment_loss")}
        loss, likeness = output.loss, output.reconstruction_loss
        if self.perceptual is not None:
            terms["perceptual_loss"] = self.perceptual(output.pixel_values, pixel_values)
            weighted = self.config.perceptual_weight * terms["perceptual_loss"]
            loss, likeness = loss + weighted, likeness + weighted
        if self.is_adversarial(step):
            adversarial, weight = self._adversarial(output.pixel_values, likeness, gradient_scale)
            terms["adversarial_loss"], terms["adversarial_scale"] = adversarial, weight
            loss = loss + self.config.adversarial_weight * weight * adversarial
        statistics = {name: output[name] for name in ("codebook_usage", "codebook_perplexity")}
        return loss, {"loss": loss.detach(), **{name: term.detach() for name, term in {**terms, **statistics}.items()}}

    def _adversarial(
        self, images: torch.Tensor, likeness: torch.Tensor, gradient_scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The adversarial loss and the factor beside its weight."""
        judge = self.judge
        assert judge is not None  # `is_adversarial` says so
        judge.requires_grad_(False)
        adversarial = adversarial_generator_loss(judge.discriminator(images))
        judge.requires_grad_(True)
        if not self.config.adversarial_adaptive:
            return adversarial, torch.ones_like(adversarial)
        return adversarial, adaptive_weight(likeness, adversarial, self.model.last_layer, gradient_scale)

    @staticmethod
    def discriminator(
        judge: nn.Module, pixel_values: torch.Tensor, reconstructions: torch.Tensor
    ) -> tuple[torch.Tensor, Terms]:
        """What the discriminator minimises.

        Args:
            judge: The `Judge`, perhaps wrapped.
            pixel_values: [B, 3, S, S] in [-1, 1].
            reconstructions: [B, 3, S, S], the model's images; no gradient reaches them.
        """
        loss = hinge_discriminator_loss(*judge(pixel_values, reconstructions.detach()))
        return loss, {"discriminator_loss": loss.detach()}


class TowerGuidance:
    """What the image tower finds in pictures, for a model that is trained with it: global tokens, or embeddings.

    Made from the whole picture whatever square of it is trained on, and kept after the first use where pictures have
    an index.

    Args:
        model: A V2L model with an image tower.
        image_processor: Its image processor.
        source: The pictures.
        device: Where the model is.
        threads: That read pictures.

    Raises:
        UserError: If the model has no image tower.
    """

    def __init__(
        self,
        model: V2LModel,
        image_processor: V2LImageProcessor,
        source: PictureSource,
        device: torch.device,
        threads: int = 2,
    ):
        assert model.guidance is not None  # who makes this has asked
        self.field = model.guidance
        if model.image_tower is None:
            raise UserError(
                f"The model is trained with {self.field} of every picture, but it has no image tower to find them: "
                "give --global-model, or set the field of its configuration to none that asks for them."
            )
        self.model, self.image_processor, self.source = model, image_processor, source
        self.device, self.threads = device, threads
        # of a table's pictures: whether what the tower says is known, and what
        self._is_known = torch.zeros(source.count or 0, dtype=torch.bool)
        self._known: torch.Tensor | None = None

    def view(self, picture: Image.Image) -> torch.Tensor:
        """The image tower's view [3, G, G] of a picture."""
        views = self.image_processor(picture, do_local_view=False, return_tensors="pt")
        return views["global_pixel_values"][0]

    def of_pictures(self, pictures: list[Image.Image]) -> torch.Tensor:
        """What is found in B pictures, [B, k] or [B, D], on the model's device."""
        return self._encode(torch.stack([self.view(picture) for picture in pictures]))

    def of_batch(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The same of a batch, on the model's device."""
        if "global_pixel_values" in batch:
            return self._encode(batch["global_pixel_values"])
        indices = batch["indices"]
        known = self._known
        missing = indices[~self._is_known[indices]].tolist()
        if missing or known is None:
            with ThreadPoolExecutor(self.threads) as pool:
                views = list(pool.map(lambda index: self.view(self.source.picture(index)), missing))
            found = self._encode(torch.stack(views)).cpu()
            if known is None:
                known = self._known = found.new_zeros(len(self._is_known), found.shape[1])
            known[missing], self._is_known[missing] = found, True
        return known[indices].to(self.device)

    @torch.no_grad()
    def _encode(self, global_pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model.encode(global_pixel_values=global_pixel_values.to(self.device))[self.field]


def to_pixel_values(pixels: torch.Tensor, device: torch.device, channels_last: bool) -> torch.Tensor:
    """8-bit pixels [B, S, S, 3] as `pixel_values` [B, 3, S, S] float32 in [-1, 1], as the image processors do it."""
    values = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).float()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return (values / 127.5 - 1).contiguous(memory_format=layout)


def tokens_of(output: Any) -> torch.Tensor:
    """The image tokens [B, h, w] of either model's output."""
    return output["local_tokens"] if "local_tokens" in output else output["image_tokens"]


def codebook_size_of(model: VQGANModel | V2LModel) -> int:
    """K of either model's local codebook."""
    config: Any = model.config
    return config.local_codebook_size if hasattr(config, "local_codebook_size") else config.codebook_size


__all__ = ["Judge", "Objective", "TowerGuidance", "codebook_size_of", "to_pixel_values", "tokens_of"]
