"""Training the map from pictures to a frozen language model's word embeddings (Tsimpoukelli et al. 2021, section 3.1).

The loss is the language model's cross-entropy of a sentence behind the picture's prefix; nothing of the language model
is trained. Everything random is seeded, and a resumed run computes what an uninterrupted one would have computed. Knows
nothing of the command line.
"""

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object, set_seed
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..completion.prefix_cache import accepts
from ..completion.questions import pad
from ..errors import UserError
from ..language import LanguageModel
from ..modeling import FrozenModel, V2LImageProcessor
from ..training.checkpoints import MODEL_FILE, Checkpoint, CheckpointFolder, write_folder
from ..training.data import Share
from ..training.preparation import release_accelerator, require_same_settings
from ..training.report import peak_memory, versions
from ..training.run_state import random_state, set_random_state
from ..training.schedule import Schedule
from ..training.stopping import StopWatch
from ..training.tracking import RunLog, require_tracker
from .config import FrozenTuningConfig
from .embedding import embed_once
from .models import require_same_width
from .pairs import Pairs

MODEL_FOLDER, REPORT_FILE = "model", "frozen.json"


def sentence_loss(
    language_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prefix_embeds: torch.Tensor,
    sentences: list[str],
) -> torch.Tensor:
    """Cross-entropy in nats per token of sentences behind prefixes; prefixes and begin token have none.

    The begin token stands first where the tokenizer writes one, as it will in a prompt; no end token is learned.

    Args:
        language_model: A causal language model.
        tokenizer: Its tokenizer.
        prefix_embeds: [B, n, H].
        sentences: B sentences.

    Raises:
        UserError: If a prefix and its sentence are longer than the model's context.
    """
    ids = tokenizer(sentences, add_special_tokens=False)["input_ids"]
    start = _begin_ids(tokenizer)
    batch, count, _ = prefix_embeds.shape
    input_ids, mask = pad(ids, "right", prefix_embeds.device)  # [B, T]
    length = len(start) + count + input_ids.shape[1]
    limit = getattr(language_model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if limit is not None and length > limit:
        raise UserError(
            f"A picture and its sentence take {length} positions, the language model has {limit}: shorten the captions."
        )
    embed = language_model.get_input_embeddings()
    begin = embed(torch.tensor([start] * batch, dtype=torch.long, device=prefix_embeds.device))
    words = embed(input_ids)
    inputs = torch.cat([begin.to(words), prefix_embeds.to(words), words], dim=1)
    seen = torch.cat([mask.new_ones(batch, len(start) + count), mask], dim=1)
    more = {"logits_to_keep": input_ids.shape[1] + 1} if accepts(language_model, "logits_to_keep") else {}
    logits = language_model(inputs_embeds=inputs, attention_mask=seen, use_cache=False, **more).logits
    logits = logits[:, -input_ids.shape[1] - 1 : -1]
    is_word = mask.bool()
    return F.cross_entropy(logits[is_word].float(), input_ids[is_word])


def _begin_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The begin token, if the tokenizer writes one in front of every text."""
    with_it, without = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    begin = tokenizer.bos_token_id
    return [begin] if with_it[:1] == [begin] and without[:1] != [begin] else []


class FrozenTuner:
    """Trains a `FrozenModel` on pictures with sentences.

    Where the tower is not trained, every picture is looked at once, before the first step, and what the tower saw is
    kept in the output folder.

    Args:
        config: The settings.
        model: The model; trained in place.
        image_processor: Makes its views.
        language_model: The language model, whose parameters stay as they are.
        pairs: The training data.
        accelerator: Knows processes and precision.

    Raises:
        UserError: If settings, data and models do not go together.
    """

    def __init__(
        self,
        config: FrozenTuningConfig,
        model: FrozenModel,
        image_processor: V2LImageProcessor,
        language_model: LanguageModel,
        pairs: Pairs,
        accelerator: Accelerator,
    ):
        require_tracker(config.tracker)
        require_same_width(model, language_model)
        if model.config.tower_trainable and pairs.open_picture is None:
            raise UserError(
                f"{pairs.name} is a stream, and a tower that is trained has to see its pictures again: download it as "
                "Parquet files, or leave --train-tower out."
            )
        self.config, self.frozen, self.image_processor = config, model.to(accelerator.device), image_processor
        self.language_model, self.pairs, self.accelerator = language_model, pairs, accelerator
        language_model.model.requires_grad_(False).eval().to(accelerator.device)
        self.checkpoints = CheckpointFolder(config.folder, config.keep_checkpoints)
        self.share = Share(config.batch_size, 1, accelerator.num_processes, accelerator.process_index, config.seed)
        self.share.steps_per_epoch(len(pairs))  # refuses a batch larger than the data
        self.settings = {
            **config.fixed(),
            "data": pairs.name,
            "pictures": len(pairs),
            "sentences_sha256": hashlib.sha256(json.dumps(pairs.sentences).encode()).hexdigest(),
            "language_model": language_model.reference,
            "num_prefix_tokens": model.config.num_prefix_tokens,
            "tower_trainable": model.config.tower_trainable,
            "processes": accelerator.num_processes,
        }
        checkpoint = self._checkpoint()
        set_seed(config.seed)
        self.image_embeds: torch.Tensor | None = None
        if not model.config.tower_trainable:
            with accelerator.main_process_first():  # the others find them written
                self.image_embeds = embed_once(
                    self.frozen, image_processor, pairs.open_pictures(), config.folder, pairs.name, len(pairs)
                )
        self.frozen.train()
        self.trained = {name: value for name, value in self.frozen.named_parameters() if value.requires_grad}
        self.optimizer = torch.optim.Adam(self.trained.values(), lr=config.learning_rate)
        self.schedule = Schedule(config.warmup_steps, config.max_steps, config.schedule == "cosine")
        self.step, self.seconds = 0, 0.0
        if checkpoint is not None:
            self._restore(checkpoint)
        self.model = accelerator.prepare(self.frozen)

    def train(self) -> dict[str, Any]:
        """Trains until the last step, the end of time or a signal; writes the model and a report, and returns that.

        Raises:
            UserError: If a loss is not finite, a picture is damaged, or the disk is full.
        """
        try:
            with StopWatch(self.config.max_minutes, self.seconds) as watch:
                self.log = RunLog(self.config.folder, self.accelerator, asdict(self.config), self.step)
                stopped_by = self._loop(watch)
            return self._finish(stopped_by)
        finally:
            self.model = None  # gloo aborts the interpreter's end where a wrapped model is still alive
            release_accelerator(self.accelerator)

    def _loop(self, watch: StopWatch) -> str:
        config, saved, stop = self.config, self.step, None
        batches = self.share.batches(np.arange(len(self.pairs)), self.step)
        losses: list[float] = []
        count = sum(parameter.numel() for parameter in self.trained.values())
        self.log.say(
            f"training {count:,} parameters for {self.language_model.reference} from step {self.step} to "
            f"{config.max_steps} on {len(self.pairs)} pictures; {self.accelerator.num_processes} process(es) on "
            f"{self.accelerator.device}, {torch.get_num_threads()} threads"
        )
        while stop is None and self.step < config.max_steps:
            loss, stop = self._take(next(batches), watch)
            losses.append(loss)
            self.seconds = watch.seconds
            last = stop is not None or self.step == config.max_steps
            if last or self.step % config.log_every == 0:
                rate = config.learning_rate * self.schedule.factor(self.step - 1)
                terms = {"loss": sum(losses) / len(losses), "learning_rate": rate}
                speed = self.step * self.share.together / self.seconds
                self.log.record(self.step, config.max_steps, {**terms, "images_per_second": speed})
                losses = []
            if last or (config.checkpoint_every and self.step % config.checkpoint_every == 0):
                self._save()
                saved = self.step
        if saved != self.step or self.checkpoints.latest() is None:
            self._save()
        return stop or "steps"

    def _take(self, batch: list[tuple[int, int]], watch: StopWatch) -> tuple[float, str | None]:
        """One step on (epoch, index) of pictures; its loss, and why the run has to stop, the same in all processes."""
        accelerator, config = self.accelerator, self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * self.schedule.factor(self.step)
        sentences = [self.pairs.sentence(index, epoch) for epoch, index in batch]
        with accelerator.autocast():
            prefix_embeds = self.model(**self._views([index for _, index in batch])).prefix_embeds
            loss = sentence_loss(self.language_model.model, self.language_model.tokenizer, prefix_embeds, sentences)
        accelerator.backward(loss)
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained.values(), config.max_gradient_norm or math.inf))
        everyone = gather_object([(loss.item(), norm, watch.received, watch.is_time_up)])
        total = sum(found[0] for found in everyone) / len(everyone)
        if not math.isfinite(total) or not math.isfinite(norm):
            raise UserError(
                f"The loss of step {self.step + 1} is {total} and the gradient's length {norm}, so the run stops "
                f"before they do harm: lower --learning-rate (last checkpoint: {self.checkpoints.latest() or 'none'})."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        received = next((found[2] for found in everyone if found[2]), None)
        return total, received or ("time" if any(found[3] for found in everyone) else None)

    def _views(self, places: list[int]) -> dict[str, torch.Tensor]:
        """What the model is given of some pictures."""
        device = self.accelerator.device
        if self.image_embeds is not None:
            return {"image_embeds": self.image_embeds[places].to(device)}
        open_picture = self.pairs.open_picture
        assert open_picture is not None  # a stream's are all looked at before
        pictures = [open_picture(place) for place in places]
        views = self.image_processor(pictures, return_tensors="pt", do_local_view=False, do_global_view=True)
        return {"global_pixel_values": views["global_pixel_values"].to(device)}

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
        shapes = {name: tensor.shape for name, tensor in checkpoint.model.items()}
        if shapes != {name: parameter.shape for name, parameter in self.trained.items()}:
            raise UserError(f"{checkpoint.path} does not fit this model: give the same --global-model and --llm.")
        self.frozen.load_state_dict(checkpoint.model, strict=False)
        self.optimizer.load_state_dict(checkpoint.state["optimizer"])
        self.step, self.seconds = checkpoint.progress["step"], checkpoint.state["seconds"]
        set_random_state(checkpoint.state["random"][self.accelerator.process_index])

    def _save(self) -> None:
        """Writes a checkpoint; all processes learn whether it worked."""
        state = {
            "optimizer": self.optimizer.state_dict(),
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
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.trained.items()}
        save_file(tensors, folder / MODEL_FILE)

    def _finish(self, stopped_by: str) -> dict[str, Any]:
        """Writes the model and the report."""
        config, accelerator = self.config, self.accelerator
        entries = self.log.entries()
        report = {
            "stopped_by": stopped_by,
            "steps": self.step,
            "images_seen": self.step * self.share.together,
            "seconds": self.seconds,
            "processes": accelerator.num_processes,
            "device": str(accelerator.device),
            "peak_memory_bytes": peak_memory(accelerator.device),
            "trainable_parameters": sum(parameter.numel() for parameter in self.trained.values()),
            "first_loss": entries[0]["loss"] if entries else None,
            "last_loss": entries[-1]["loss"] if entries else None,
            "settings": self.settings,
            "versions": versions(),
        }
        if accelerator.is_main_process:
            write_folder(config.folder / MODEL_FOLDER, self._save_model)
            text = json.dumps(report, indent=1, ensure_ascii=False)
            (config.folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")
        accelerator.wait_for_everyone()
        return report

    def _save_model(self, folder: Path) -> None:
        self.frozen.eval().save_pretrained(folder)
        self.image_processor.save_pretrained(folder)
