"""What a step minimises: cross-entropy of image tokens, or that and the divergence from a larger model."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..modeling import SimLVMForVisualSentence


class NextToken(nn.Module):
    """Cross-entropy of the labelled tokens, as the model itself gives it."""

    def forward(self, model: nn.Module, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Scalars by name; `loss` is what is minimised.

        Args:
            model: The model, perhaps wrapped for several processes.
            inputs: Its arguments, labels among them.
        """
        found = model(**inputs)
        return {"loss": found.loss, "accuracy": accuracy(found.logits, inputs["labels"])}


class Distillation(nn.Module):
    """Cross-entropy of the labels, and the divergence between teacher and student over the whole vocabulary.

    DeLVM (https://arxiv.org/abs/2402.04841), section 3.3; internlm/model/loss.py: KL(teacher || student) of logits
    divided by a temperature T, times T squared; `reverse` exchanges the two. Taken over the labelled places.

    Args:
        teacher: A frozen model of the same tokens.
        temperature: T.
        teacher_weight: Weight of the divergence.
        label_weight: Weight of the cross-entropy.
        reverse: Whether the divergence is KL(student || teacher).
    """

    def __init__(
        self,
        teacher: SimLVMForVisualSentence,
        temperature: float = 1.0,
        teacher_weight: float = 1.0,
        label_weight: float = 1.0,
        reverse: bool = False,
    ):
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)
        self.temperature, self.teacher_weight, self.label_weight = temperature, teacher_weight, label_weight
        self.reverse = reverse

    def train(self, mode: bool = True) -> "Distillation":
        """As `nn.Module.train`; the teacher stays as it is used."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, model: nn.Module, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
        """As `NextToken.forward`."""
        found = model(**inputs)
        with torch.no_grad():
            wanted = self.teacher(**inputs).logits
        divergence = kl_divergence(found.logits, wanted, self.temperature, self.reverse)
        return {
            "loss": self.label_weight * found.loss + self.teacher_weight * divergence,
            "label_loss": found.loss,
            "divergence": divergence,
            "accuracy": accuracy(found.logits, inputs["labels"]),
        }


def kl_divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float, reverse: bool) -> torch.Tensor:
    """Mean over M places of KL(teacher || student) * T^2, in nats; the other way round with `reverse`.

    Args:
        student: [M, V] logits.
        teacher: [M, V] logits.
        temperature: T.
        reverse: See above.
    """
    own, other = (logits.float().div(temperature).log_softmax(-1) for logits in (student, teacher))
    first, second = (other, own) if reverse else (own, other)
    total = F.kl_div(first, second, reduction="sum", log_target=True)
    return total / max(len(student), 1) * temperature**2


@torch.no_grad()
def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Share of labelled tokens that are the likeliest; 0 where nothing is labelled.

    Args:
        logits: [M, V], of the labelled places.
        labels: [B, L], shifted here, -100 where nothing is asked.
    """
    asked = labels[:, 1:]
    right = logits.argmax(-1) == asked[asked != -100]
    return right.sum() / max(len(right), 1)
