"""The loop over steps: gradients, checkpoints, the log, and the model at the end.

Everything random is seeded, and a resumed run computes what an uninterrupted one would have computed.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object, set_seed

from ..errors import UserError
from ..modeling import SimLVMForVisualSentence, SimLVMProcessor
from ..training.checkpoints import Checkpoint, CheckpointFolder, write_folder
from ..training.preparation import require_same_settings
from ..training.report import peak_memory, versions
from ..training.run_state import random_state, set_random_state
from ..training.schedule import Schedule
from ..training.stopping import StopWatch
from ..training.tracking import RunLog, require_tracker
from .batches import SentenceBatch, SentenceFeed
from .config import SentenceTrainingConfig
from .lora import TunedModel
from .machine import product_flops
from .meter import Meter, training_flops
from .noise import with_noisy_answers
from .objective import Distillation, NextToken
from .optimizer import PEAK, make_optimizer
from .processes import COPIES, part_processes, share_model, sharing
from .weights import ShardedState

MODEL_FOLDER, REPORT_FILE = "model", "training.json"


class SentenceTrainer:
    """Trains a SimLVM on token sentences.

    Args:
        config: The settings.
        tuned: The model and what of it is trained.
        processor: Written beside the model.
        feed: Batches.
        objective: What is minimised.
        accelerator: Knows processes and precision.
        data: What the sentences were made of, for the record.

    Raises:
        UserError: If settings, data and machine do not go together.
    """

    def __init__(
        self,
        config: SentenceTrainingConfig,
        tuned: TunedModel,
        processor: SimLVMProcessor,
        feed: SentenceFeed,
        objective: NextToken | Distillation,
        accelerator: Accelerator,
        data: dict[str, Any],
    ):
        self.config, self.tuned, self.processor, self.feed = config, tuned, processor, feed
        self.accelerator = accelerator
        self.checkpoints = CheckpointFolder(config.folder, config.keep_checkpoints)
        require_tracker(config.tracker)
        self.settings = {
            **config.fixed(),
            **data,
            "processes": accelerator.num_processes,
            "sharing": sharing(accelerator),
        }
        checkpoint = self._checkpoint()
        set_seed(config.seed)
        self.model = tuned.model
        if config.gradient_checkpointing:
            enable_checkpointing(self.model)
        self.objective = objective.to(accelerator.device)
        named = [(name, one) for name, one in self.model.named_parameters() if one.requires_grad]
        optimizer = make_optimizer(config, named, sharing(accelerator) != COPIES)
        self.schedule = Schedule(config.warmup_steps, config.max_steps, config.schedule == "cosine")
        self.step, self.seconds, self.tokens = 0, 0.0, 0
        length = feed.collator.max_images * feed.collator.tokens_per_image
        peak = product_flops(accelerator.device, accelerator.mixed_precision)
        self.meter = Meter(0.0, training_flops(self.model, length), peak * accelerator.num_processes)
        if checkpoint is not None:
            tuned.load(checkpoint.model, checkpoint.path)
        untouched = {
            name: tensor.cpu() for name, tensor in self.model.state_dict().items() if name.startswith("vqgan.")
        }
        self.wrapped, self.optimizer = share_model(accelerator, self.model.train(), optimizer)
        self.state = ShardedState(accelerator, self.wrapped, self.optimizer, untouched)
        if checkpoint is not None:
            self._restore(checkpoint)

    def train(self) -> dict[str, Any]:
        """Trains until the last step, the end of time or a signal; writes model and report, and returns that.

        Raises:
            UserError: If a loss is not finite, or the disk is full.
        """
        config = self.config
        try:
            with StopWatch(config.max_minutes, self.seconds) as watch:
                self.log = RunLog(config.folder, self.accelerator, asdict(config), self.step)
                stopped_by = self._loop(watch)
            return self._finish(stopped_by)
        finally:
            del self.wrapped, self.state  # gloo aborts the interpreter's end where a wrapped model is still alive
            part_processes(self.accelerator)

    def _loop(self, watch: StopWatch) -> str:
        config, saved, stop = self.config, self.step, None
        steps, meter = iter(self.feed), self.meter
        self._announce()
        while stop is None and self.step < config.max_steps:
            with meter.loading():
                parts = next(steps)
            terms, tokens, stop = self._take(parts, watch)
            meter.add(terms, tokens)
            self.tokens += tokens
            self.seconds = watch.seconds
            last = stop is not None or self.step == config.max_steps
            if last or self.step % config.log_every == 0:
                found = meter.read(watch.seconds)
                found["learning_rate"] = config.learning_rate * self._factor(self.step - 1)
                self.log.record(self.step, config.max_steps, found)
            if last or (config.checkpoint_every and self.step % config.checkpoint_every == 0):
                self._save()
                saved = self.step
        if saved != self.step or self.checkpoints.latest() is None:
            self._save()
        return stop or "steps"

    def _announce(self) -> None:
        config, accelerator = self.config, self.accelerator
        count = sum(parameter.numel() for parameter in self.tuned.trained)
        each = self.meter.peak / accelerator.num_processes
        self.log.say(
            f"training {count:,} parameters from step {self.step} to {config.max_steps}; {accelerator.num_processes} "
            f"process(es) on {accelerator.device}, {torch.get_num_threads()} threads, where a matrix product makes "
            f"{each / 1e9:.0f} GFLOP/s"
        )

    def _factor(self, step: int) -> float:
        """What the highest rates are multiplied by."""
        floor = self.config.final_learning_rate
        factor = self.schedule.factor(step)
        return factor if step < self.config.warmup_steps else floor + (1 - floor) * factor

    def _take(self, parts: list[SentenceBatch], watch: StopWatch) -> tuple[dict[str, float], int, str | None]:
        """One step; its terms, its tokens, and why the run has to stop: the same in all processes."""
        accelerator, config, converter = self.accelerator, self.config, self.feed.collator.converter
        for group in self.optimizer.param_groups:
            group["lr"] = group[PEAK] * self._factor(self.step)
        own = torch.tensor([sum(part.asked for part in parts), sum(part.tokens for part in parts)])
        asked, tokens = accelerator.reduce(own.to(accelerator.device), "sum").tolist()
        sums: dict[str, torch.Tensor] = {}
        for part in parts:
            # each token that is learned counts alike, wherever it stands; processes' gradients are averaged
            weight = part.asked * accelerator.num_processes / max(asked, 1)
            with accelerator.accumulate(self.wrapped):  # gradients cross processes once a step
                inputs = with_noisy_answers(part, config.answer_noise, converter).inputs(accelerator.device)
                with accelerator.autocast():
                    terms = self.objective(self.wrapped, inputs)
                accelerator.backward(terms["loss"] * (weight * len(parts)))  # which divides by their number
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.detach() * weight
        limit = self.config.max_gradient_norm or math.inf
        norm: Any = accelerator.clip_grad_norm_(self.wrapped.parameters(), limit)
        own_sums = {name: float(value) for name, value in sums.items()}
        everyone = gather_object([(own_sums, float(norm), watch.received, watch.is_time_up)])
        means = {name: sum(found[0][name] for found in everyone) / len(everyone) for name in sums}
        means["gradient_norm"] = max(found[1] for found in everyone)
        self._require_finite(means)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        received = next((found[2] for found in everyone if found[2]), None)
        return means, tokens, received or ("time" if any(found[3] for found in everyone) else None)

    def _require_finite(self, means: dict[str, float]) -> None:
        """Refuses to go on where a step would spoil the model.

        Raises:
            UserError: If the loss is not finite, or the gradient is not and no scaler looks after it.
        """
        is_scaled = self.accelerator.scaler is not None
        if math.isfinite(means["loss"]) and (is_scaled or math.isfinite(means["gradient_norm"])):
            return
        raise UserError(
            f"The loss of step {self.step + 1} is {means['loss']} and the gradient's length {means['gradient_norm']}, "
            "so the run stops before they do harm: lower --learning-rate (last checkpoint: "
            f"{self.checkpoints.latest() or 'none'})."
        )

    def _checkpoint(self) -> Checkpoint | None:
        """The checkpoint to continue from, of a run of the same settings."""
        if self.config.resume:
            path = self.checkpoints.find(self.config.resume)
            checkpoint = None if path is None else self.checkpoints.read(path)
            if checkpoint is not None:
                require_same_settings(checkpoint, self.settings)
            return checkpoint
        if there := self.checkpoints.latest():
            raise UserError(
                f"{self.config.output} holds checkpoints of an earlier run (the last is {there.name}): continue it "
                "with --resume latest, or give another --output."
            )
        return None

    def _restore(self, checkpoint: Checkpoint) -> None:
        state, rank = checkpoint.state, self.accelerator.process_index
        self.state.load_optimizer(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.tokens = checkpoint.progress["step"], state["seconds"], state["tokens"]
        self.meter.load_state_dict(state["meter"], self.seconds)
        self.feed.position = state["positions"][rank]
        set_random_state(state["random"][rank])

    def _save(self) -> None:
        """Writes a checkpoint; all processes learn whether it worked."""
        scaler = self.accelerator.scaler
        weights = self.state.model()  # all processes have to ask for both
        state = {
            "optimizer": self.state.optimizer_state(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "seconds": self.seconds,
            "tokens": self.tokens,
            "meter": self.meter.state_dict(self.seconds),
            "positions": gather_object([self.feed.position]),
            "random": gather_object([random_state()]),
        }
        problem = None
        if self.accelerator.is_main_process:
            progress = {"step": self.step, "settings": self.settings, "versions": versions()}
            try:
                self.checkpoints.write(
                    self.step, lambda folder: self.tuned.save_checkpoint(folder, weights), {}, state, progress
                )
            except UserError as error:
                problem = str(error)
        (problem,) = broadcast_object_list([problem])
        if problem:
            raise UserError(problem)

    def _finish(self, stopped_by: str) -> dict[str, Any]:
        """Writes the model and the report."""
        config, accelerator = self.config, self.accelerator
        entries, weights = self.log.entries(), self.state.model()
        report = {
            "stopped_by": stopped_by,
            "steps": self.step,
            "tokens_seen": self.tokens,
            "seconds": self.seconds,
            "tokens_per_second": self.tokens / max(self.seconds, 1e-9),
            "processes": accelerator.num_processes,
            "device": str(accelerator.device),
            "peak_memory_bytes": peak_memory(accelerator.device),
            "trainable_parameters": sum(parameter.numel() for parameter in self.tuned.trained),
            "first_loss": entries[0]["loss"] if entries else None,
            "last_loss": entries[-1]["loss"] if entries else None,
            "settings": self.settings,
            "model_config": self.model.config.to_dict(),
            "versions": versions(),
        }
        if accelerator.is_main_process:

            def fill(folder: Path) -> None:
                self.tuned.save_model(folder, weights)
                self.processor.save_pretrained(folder)

            write_folder(config.folder / MODEL_FOLDER, fill)
            text = json.dumps(report, indent=1, ensure_ascii=False)
            (config.folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")
        accelerator.wait_for_everyone()
        return report


def enable_checkpointing(model: SimLVMForVisualSentence) -> None:
    """Lets the language model compute its activations twice.

    Raises:
        UserError: If it cannot.
    """
    network = model.language_model
    # the older name warns where the newer one is there
    enable = getattr(network, "activation_checkpointing_enable", None) or network.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise UserError(
            f"--gradient-checkpointing does not go with a {model.config.text_config.model_type} language model: leave "
            "it out, or make --batch-size smaller and --gradient-accumulation larger."
        ) from error


__all__ = ["SentenceTrainer"]
