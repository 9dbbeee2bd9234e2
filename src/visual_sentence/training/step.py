"""One step of the optimizers: forward and backward passes, a check of what came out, and only then the update."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from ..errors import UserError
from .config import TrainingConfig
from .feeding import Batch
from .objective import Objective, TowerGuidance, to_pixel_values, tokens_of
from .run_state import RunState
from .stopping import StopWatch

GRADIENT_NORM, DISCRIMINATOR_GRADIENT_NORM = "gradient_norm", "discriminator_gradient_norm"


class Stepper:
    """Takes steps.

    Args:
        config: The run's settings.
        accelerator: Knows processes and precision.
        objective: The losses.
        state: What is changed.
        guidance: What the image tower finds; None for a model that is trained without.
        on_first_batch: Called once with `pixel_values` and tokens.
        last_checkpoint: Says where the last checkpoint is, for the message when a step goes wrong.
    """

    def __init__(
        self,
        config: TrainingConfig,
        accelerator: Accelerator,
        objective: Objective,
        state: RunState,
        guidance: TowerGuidance | None,
        on_first_batch: Callable[[torch.Tensor, torch.Tensor], None],
        last_checkpoint: Callable[[], object],
    ):
        self.config, self.accelerator, self.objective, self.state = config, accelerator, objective, state
        self.guidance, self.on_first_batch, self.last_checkpoint = guidance, on_first_batch, last_checkpoint
        self.model: nn.Module = accelerator.prepare(objective.model)
        self.judge: nn.Module | None = None if objective.judge is None else accelerator.prepare(objective.judge)
        self._is_first = True

    def take(self, batches: list[Batch], watch: StopWatch) -> tuple[dict[str, float], str | None]:
        """Takes one step.

        Args:
            batches: Its batches, one a forward pass.
            watch: Knows whether the run has to stop.

        Returns:
            The step's terms, averaged over batches and processes; and why the run has to stop, the same in all
            processes, or None.

        Raises:
            UserError: If a term or a gradient is not finite; the weights are those from before the step.
        """
        gathered: dict[str, list[torch.Tensor]] = {}
        for place, batch in enumerate(batches):
            with ExitStack() as stack:
                if place + 1 < len(batches):  # gradients cross processes once a step
                    for part in filter(None, (self.model, self.judge)):
                        stack.enter_context(self.accelerator.no_sync(part))
                for name, term in self._backward(batch, len(batches)).items():
                    gathered.setdefault(name, []).append(term)
        terms = {name: torch.stack([term.float() for term in found]).mean() for name, found in gathered.items()}
        active = self.state.optimizers[: 2 if "discriminator_loss" in terms else 1]
        norms = self._clip(active)
        values, stop = self._agree({**terms, **norms}, watch)
        self._require_finite(values)
        self._update(active)
        for name, value in values.items():
            total = self.state.sums.setdefault(name, [0.0, 0])
            total[0], total[1] = total[0] + value, total[1] + 1
        return values, stop

    def _backward(self, batch: Batch, batches: int) -> dict[str, torch.Tensor]:
        """Forward and backward pass of model and discriminator for one batch; their terms."""
        accelerator, objective, step = self.accelerator, self.objective, self.state.step
        pixel_values = to_pixel_values(batch["pixels"], accelerator.device, self.config.channels_last)
        is_quantized = step >= self.config.unquantized_steps
        inputs: dict[str, Any] = {"pixel_values": pixel_values, "quantize": is_quantized}
        if self.guidance is not None:
            inputs[self.guidance.field] = self.guidance.of_batch(batch)
        try:
            output = self.model(**inputs)
        except ValueError as error:
            if "not finite" not in str(error):
                raise
            raise self._stopped(str(error)) from error
        scale = 1.0 if accelerator.scaler is None else accelerator.scaler.get_scale()
        with accelerator.autocast():
            loss, terms = objective.generator(output, pixel_values, step, scale)
        accelerator.backward(loss / batches)
        if self.judge is not None and objective.is_adversarial(step):
            with accelerator.autocast():
                loss, more = objective.discriminator(self.judge, pixel_values, output.pixel_values)
            accelerator.backward(loss / batches)
            terms |= more
        tokens = tokens_of(output)
        if is_quantized:
            self.state.monitor.update(tokens, step + 1)
        if self._is_first:
            self.on_first_batch(pixel_values, tokens)
            self._is_first = False
        return terms

    def _clip(self, optimizers: list[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
        """Norms of the gradients, as they were before they are scaled down in place."""
        norms = {}
        for name, optimizer in zip((GRADIENT_NORM, DISCRIMINATOR_GRADIENT_NORM), optimizers, strict=False):
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.unscale_(optimizer)
            parameters = [one for group in optimizer.param_groups for one in group["params"] if one.grad is not None]
            norms[name] = nn.utils.get_total_norm([one.grad for one in parameters])
            if self.config.max_gradient_norm > 0:
                nn.utils.clip_grads_with_norm_(parameters, self.config.max_gradient_norm, norms[name])
        return norms

    def _agree(self, terms: dict[str, torch.Tensor], watch: StopWatch) -> tuple[dict[str, float], str | None]:
        """Means over the processes, and whether any of them has to stop: the one wait of a step."""
        stops = terms["loss"].new_tensor([watch.received is not None, watch.is_time_up], dtype=torch.float32)
        together = torch.cat([torch.stack([term.float() for term in terms.values()]), stops])
        *values, signalled, late = self.accelerator.reduce(together, "mean").tolist()
        stop = (watch.received or "signal") if signalled else "time" if late else None
        return dict(zip(terms, values, strict=True)), stop

    def _require_finite(self, values: dict[str, float]) -> None:
        # with fp16 an overflow of gradients is part of the game: the scaler leaves the step out
        exempt = (GRADIENT_NORM, DISCRIMINATOR_GRADIENT_NORM) if self.accelerator.scaler is not None else ()
        for name, value in values.items():
            if not math.isfinite(value) and name not in exempt:
                raise self._stopped(f"{name} is {value}")

    def _stopped(self, what: str) -> UserError:
        last = self.last_checkpoint()
        remedy = f"start from it with --config {last}" if last else "start again"
        return UserError(
            f"Step {self.state.step + 1}: {what.rstrip('.')}, so the run stops before its weights are spoilt; the last "
            f"good checkpoint is {last or 'none, since none was written yet'}: {remedy}, a lower --learning-rate and "
            "--max-gradient-norm 1, or without --mixed-precision."
        )

    def _update(self, active: list[torch.optim.Optimizer]) -> None:
        state, scaler = self.state, self.accelerator.scaler
        for optimizer, rate in zip(active, state.rates, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate * state.schedule.factor(state.step)
            if scaler is None:
                optimizer.step()
            else:
                scaler.step(optimizer)
        if scaler is not None:
            scaler.update()
        for optimizer in active:
            optimizer.zero_grad(set_to_none=True)
        if state.average is not None:
            state.average.step(self.objective.model.trainable_parameters())
        state.step += 1
