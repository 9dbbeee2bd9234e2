"""Tuning a language model to continue local words: LoRA, loss on local tokens only (V2L Tokenizer, appendix A).

Everything random is seeded, and a resumed run computes what an uninterrupted one would have computed. Knows nothing of
the command line.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object, set_seed
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file

from ..completion.prefix_cache import accepts
from ..errors import UserError
from ..language import LanguageModel
from ..training.checkpoints import MODEL_FILE, Checkpoint, CheckpointFolder, write_folder
from ..training.data import Share
from ..training.preparation import release_accelerator, require_same_settings
from ..training.report import peak_memory, versions
from ..training.run_state import random_state, set_random_state
from ..training.schedule import Schedule
from ..training.stopping import StopWatch
from ..training.tracking import RunLog, require_tracker
from .adapters import AdapterRecord, quiet_peft, save_adapter
from .config import TuningConfig
from .sequences import ImageSequences

ADAPTER_FOLDER, MERGED_FOLDER, REPORT_FILE = "adapter", "merged", "tuning.json"


def add_lora(language_model: LanguageModel, config: TuningConfig) -> PeftModel:
    """Puts LoRA's matrices, at their beginning, on a language model.

    Raises:
        UserError: If the language model has no layers of those names.
    """
    alpha: Any = config.alpha  # peft says int, and divides by the rank
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules),
        task_type="CAUSAL_LM",
    )
    try:
        with quiet_peft():
            return get_peft_model(language_model.model, lora)
    except ValueError as error:
        names = sorted({name.split(".")[-1] for name, part in language_model.model.named_modules() if "proj" in name})
        raise UserError(
            f"{language_model.reference} has no layers called {', '.join(config.target_modules)}"
            f"{f' (it has {chr(44).join(names)})' if names else ''}: name others by --target-modules."
        ) from error


def local_loss(model: torch.nn.Module, base: torch.nn.Module, sequences: ImageSequences) -> torch.Tensor:
    """Cross-entropy in nats per local token; prefixes have none (V2L Tokenizer, appendix A).

    Args:
        model: What is called: a language model, perhaps wrapped for several processes.
        base: The language model inside, whose `forward` tells which arguments there are.
        sequences: N pictures.
    """
    inputs: dict[str, Any] = sequences.inputs(next(base.parameters()).device)
    if not accepts(base, "position_ids"):
        inputs.pop("position_ids")
    length = sequences.maps[0].numel()
    if accepts(base, "logits_to_keep"):
        inputs["logits_to_keep"] = length + 1
    logits = model(**inputs, use_cache=False).logits[:, -length - 1 : -1]
    return F.cross_entropy(logits.flatten(0, 1).float(), inputs["input_ids"][:, -length:].flatten())


class LoraTuner:
    """Tunes a language model on sequences.

    Args:
        config: The settings.
        language_model: The model; LoRA's matrices are put on it in place.
        sequences: The training pictures.
        record: What is written beside the adapter; its `most_frequent_token` is found here.
        accelerator: Knows processes and precision.
        data_name: What the pictures are called, for the record.

    Raises:
        UserError: If settings, data and machine do not go together.
    """

    def __init__(
        self,
        config: TuningConfig,
        language_model: LanguageModel,
        sequences: ImageSequences,
        record: AdapterRecord,
        accelerator: Accelerator,
        data_name: str,
    ):
        self.config, self.sequences, self.record, self.accelerator = config, sequences, record, accelerator
        self.checkpoints = CheckpointFolder(config.folder, config.keep_checkpoints)
        require_tracker(config.tracker)
        share = Share(
            config.batch_size,
            config.gradient_accumulation,
            accelerator.num_processes,
            accelerator.process_index,
            config.seed,
        )
        share.steps_per_epoch(len(sequences))  # refuses a batch larger than the data
        self.share = share
        self.settings = {
            **config.fixed(),
            "data": data_name,
            "pictures": len(sequences),
            "tokens_sha256": record.tokens_sha256,
            "language_model": record.language_model,
            "num_global_words": record.num_global_words,
            "processes": accelerator.num_processes,
        }
        checkpoint = self._checkpoint()
        set_seed(config.seed)
        self.language_model = language_model
        self.adapted = add_lora(language_model, config).to(accelerator.device).train()
        self.trained = [parameter for parameter in self.adapted.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.trained, lr=config.learning_rate)
        self.schedule = Schedule(config.warmup_steps, config.max_steps, config.schedule == "cosine")
        self.step, self.seconds = 0, 0.0
        if checkpoint is not None:
            self._restore(checkpoint)
        self.model = accelerator.prepare(self.adapted)

    def train(self) -> dict[str, Any]:
        """Trains until the last step, the end of time or a signal; writes the adapter and a report, and returns that.

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
            self.model = None  # gloo aborts the interpreter's end where a wrapped model is still alive
            release_accelerator(self.accelerator)

    def _loop(self, watch: StopWatch) -> str:
        config, saved, stop = self.config, self.step, None
        batches = self.share.batches(np.arange(len(self.sequences)), self.step)
        losses: list[float] = []
        count = sum(parameter.numel() for parameter in self.trained)
        self.log.say(
            f"tuning {self.record.language_model} ({count:,} parameters) from step {self.step} to {config.max_steps} "
            f"on {len(self.sequences)} pictures; {self.accelerator.num_processes} process(es) on "
            f"{self.accelerator.device}, {torch.get_num_threads()} threads"
        )
        while stop is None and self.step < config.max_steps:
            parts = [[index for _, index in next(batches)] for _ in range(config.gradient_accumulation)]
            loss, stop = self._take(parts, watch)
            losses.append(loss)
            self.seconds = watch.seconds
            last = stop is not None or self.step == config.max_steps
            if last or self.step % config.log_every == 0:
                rate = config.learning_rate * self.schedule.factor(self.step - 1)
                seen = self.step * self.share.together * config.gradient_accumulation
                terms = {"loss": sum(losses) / len(losses), "learning_rate": rate}
                self.log.record(self.step, config.max_steps, {**terms, "images_per_second": seen / self.seconds})
                losses = []
            if last or (config.checkpoint_every and self.step % config.checkpoint_every == 0):
                self._save()
                saved = self.step
        if saved != self.step or self.checkpoints.latest() is None:
            self._save()
        return stop or "steps"

    def _take(self, parts: list[list[int]], watch: StopWatch) -> tuple[float, str | None]:
        """One step; its loss, and why the run has to stop, the same in all processes."""
        accelerator, base = self.accelerator, self.adapted.get_base_model()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self.schedule.factor(self.step)
        total = 0.0
        for place, rows in enumerate(parts):
            # gradients cross processes once a step
            skip = accelerator.no_sync(self.model) if place + 1 < len(parts) else torch.enable_grad()
            with skip, accelerator.autocast():
                loss = local_loss(self.model, base, self.sequences[rows]) / len(parts)
                accelerator.backward(loss)
            total += loss.item()
        norm = self._clip()
        mine = (total, norm, watch.received, watch.is_time_up)
        everyone = gather_object([mine])
        total = sum(found[0] for found in everyone) / len(everyone)
        if not math.isfinite(total) or (accelerator.scaler is None and not math.isfinite(norm)):
            raise UserError(
                f"The loss of step {self.step + 1} is {total} and the gradient's length {norm}, so the run stops "
                f"before they do harm: lower --learning-rate (last checkpoint: {self.checkpoints.latest() or 'none'})."
            )
        self._update()
        self.step += 1
        received = next((found[2] for found in everyone if found[2]), None)
        return total, received or ("time" if any(found[3] for found in everyone) else None)

    def _clip(self) -> float:
        scaler = self.accelerator.scaler
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        limit = self.config.max_gradient_norm or math.inf
        return float(torch.nn.utils.clip_grad_norm_(self.trained, limit))

    def _update(self) -> None:
        scaler = self.accelerator.scaler
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

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
        set_peft_model_state_dict(self.adapted, checkpoint.model)
        state = checkpoint.state
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = checkpoint.progress["step"], state["seconds"]
        set_random_state(state["random"][self.accelerator.process_index])

    def _save(self) -> None:
        """Writes a checkpoint; all processes learn whether it worked."""
        scaler = self.accelerator.scaler
        state = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "seconds": self.seconds,
            "random": gather_object([random_state()]),
        }
        problem = None
        if self.accelerator.is_main_process:
            progress = {"step": self.step, "settings": self.settings, "versions": versions()}
            try:
                self.checkpoints.write(self.step, self._save_weights, {}, state, progress)
            except UserError as error:
                problem = str(error)
        (problem,) = broadcast_object_list([problem])
        if problem:
            raise UserError(problem)

    def _save_weights(self, folder: Path) -> None:
        tensors = get_peft_model_state_dict(self.adapted, save_embedding_layers=False)
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / MODEL_FILE)

    def _finish(self, stopped_by: str) -> dict[str, Any]:
        """Writes the adapter, the merged model where it is wanted, and the report."""
        config, accelerator = self.config, self.accelerator
        images = self.step * self.share.together * config.gradient_accumulation
        entries = self.log.entries()
        report = {
            "stopped_by": stopped_by,
            "steps": self.step,
            "images_seen": images,
            "seconds": self.seconds,
            "processes": accelerator.num_processes,
            "device": str(accelerator.device),
            "peak_memory_bytes": peak_memory(accelerator.device),
            "trainable_parameters": sum(parameter.numel() for parameter in self.trained),
            "first_loss": entries[0]["loss"] if entries else None,
            "last_loss": entries[-1]["loss"] if entries else None,
            "settings": self.settings,
            "versions": versions(),
        }
        if accelerator.is_main_process:
            write_folder(config.folder / ADAPTER_FOLDER, lambda to: save_adapter(self.adapted, to, self.record))
            if config.merge:
                write_folder(config.folder / MERGED_FOLDER, self._save_merged)
            text = json.dumps(report, indent=1, ensure_ascii=False)
            (config.folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")
        accelerator.wait_for_everyone()
        return report

    def _save_merged(self, folder: Path) -> None:
        """The language model with its adapter in its weights, which ends the tuning."""
        self.adapted.merge_and_unload().save_pretrained(folder)
        self.language_model.tokenizer.save_pretrained(folder)
        self.record.save(folder)
