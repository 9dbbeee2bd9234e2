"""Adversarial losses of an image tokenizer, and the weight that balances them against the reconstruction.

Sources: hinge loss as in taming-transformers (https://github.com/CompVis/taming-transformers,
taming/modules/losses/vqperceptual.py); adaptive weight of VQGAN, Esser, Rombach, Ommer 2021
(https://arxiv.org/abs/2012.09841), equation 7.
"""

import torch
from torch import distributed, nn

# delta of equation 7; the published code has 1e-4 where the paper writes 1e-6
GRADIENT_NORM_OFFSET = 1e-4
LARGEST_WEIGHT = 1e4


def hinge_discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """What the discriminator minimises: half of mean(relu(1 - real)) + mean(relu(1 + fake)).

    Args:
        real_logits: The discriminator's logits of real images, any shape and float dtype.
        fake_logits: Those of reconstructions, detached from the generator; any shape and float dtype.

    Returns:
        A float32 scalar, zero where every real logit is at least 1 and every fake one at most -1.
    """
    real, fake = real_logits.float(), fake_logits.float()
    return 0.5 * (torch.relu(1 - real).mean() + torch.relu(1 + fake).mean())


def adversarial_generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """What the generator minimises: minus the mean logit of its images.

    Args:
        fake_logits: The discriminator's logits of reconstructions, any shape and float dtype.

    Returns:
        A float32 scalar of either sign.
    """
    return -fake_logits.float().mean()


def adaptive_weight(
    reconstruction_and_perceptual: torch.Tensor,
    adversarial: torch.Tensor,
    last_layer: nn.Parameter,
    gradient_scale: float = 1.0,
) -> torch.Tensor:
    """The weight at which the adversarial loss pulls at the decoder's last layer as hard as the other losses do.

    ||gradient of the reconstruction|| / (||gradient of the adversarial loss|| + 1e-4), from 0 to 10,000. The graphs of
    both losses are kept, so that the total can still be differentiated; no `.grad` is touched. Where several processes
    train together, gradients are averaged over them first (the published code does not), so that all share one weight
    and it is that of the whole batch; all of them have to call this.

    Args:
        reconstruction_and_perceptual: float32 scalar, the weighted sum of the losses that compare images.
        adversarial: float32 scalar from `adversarial_generator_loss`.
        last_layer: The weight of the decoder's last convolution, on which both depend.
        gradient_scale: Multiplied into both losses before they are differentiated and divided out of the norms. With
            float16 autocast give the gradient scaler's scale, or the gradients of a mean over many pixels vanish.

    Returns:
        A float32 scalar without a graph; NaN where a gradient is not finite.
    """
    reconstruction_norm, adversarial_norm = (
        _gradient_norm(loss * gradient_scale, last_layer) / gradient_scale
        for loss in (reconstruction_and_perceptual, adversarial)
    )
    return (reconstruction_norm / (adversarial_norm + GRADIENT_NORM_OFFSET)).clamp(0, LARGEST_WEIGHT)


def _gradient_norm(loss: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
    """The Euclidean norm of the loss's gradient, averaged over the processes that train together."""
    gradient = torch.autograd.grad(loss, parameter, retain_graph=True)[0].float()
    if distributed.is_available() and distributed.is_initialized():
        # gloo cannot average
        distributed.all_reduce(gradient)
        gradient = gradient / distributed.get_world_size()
    return gradient.norm()


__all__ = ["adaptive_weight", "adversarial_generator_loss", "hinge_discriminator_loss"]
