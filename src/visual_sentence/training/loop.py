"""The training loop: pictures in, a model out.

Everything random is seeded and everything that changes is in `RunState`, so that a resumed run computes what an
uninterrupted one would have computed. Knows nothing of the command line.
"""

import errno
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.utils import broadcast, broadcast_object_list, set_seed

from ..errors import UserError
from ..modeling import V2LModel, V2LProcessor, VQGANImageProcessor, VQGANModel
from .checkpoints import CheckpointFolder, write_folder
from .config import TrainingConfig
from .feeding import Batch, Feeder
from .objective import Objective, TowerGuidance, codebook_size_of, to_pixel_values
from .pictures import PictureSource
from .preparation import (
    count_steps,
    find_checkpoint,
    fixed_settings,
    make_accelerator,
    make_state,
    release_accelerator,
    require_movable_codes,
    require_same_settings,
)
from .report import TrainingReport, peak_memory, versions
from .step import Stepper
from .stopping import StopWatch
from .tracking import RunLog, require_tracker

MODEL_FOLDER = "model"
FITTED_PICTURES = 256  # whose latents the codes are moved to
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Trainer:
    """Trains an image tokenizer.

    Args:
        config: The settings.
        model: A `VQGANModel`, or a `V2LModel` with a local half.
        processor: A `VQGANImageProcessor` or a `V2LProcessor`; is saved beside the model, and makes the view of its
            image tower.
        source: The pictures.
        on_step: Called behind each step with the number of finished steps and the step's terms.

    Raises:
        UserError: If settings, data and machine do not go together.
    """

    def __init__(
        self,
        config: TrainingConfig,
        model: VQGANModel | V2LModel,
        processor: V2LProcessor | VQGANImageProcessor,
        source: PictureSource,
        on_step: Callable[[int, dict[str, float]], None] | None = None,
    ):
        self.config, self.model, self.processor, self.source = config, model, processor, source
        self.on_step = on_step
        self.checkpoints = CheckpointFolder(config.folder, config.keep_checkpoints)
        require_tracker(config.tracker)
        checkpoint = find_checkpoint(config, self.checkpoints)
        self.accelerator = make_accelerator(config)
        self.settings = fixed_settings(config, model, source, self.accelerator.num_processes)
        if checkpoint is not None:
            require_same_settings(checkpoint, self.settings)
        set_seed(config.seed)
        self._build()
        self.resumed_step = None
        if checkpoint is not None:
            self.state.restore(checkpoint, self.accelerator)
            self.resumed_step = self.state.step

    def _build(self) -> None:
        """Puts the parts of the run together."""
        config, model, accelerator = self.config, self.model, self.accelerator
        require_movable_codes(config, model)
        device = accelerator.device
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        model.to(device, memory_format=layout).train()
        self.objective = Objective(config, model, device)
        if self.objective.judge is not None:
            self.objective.judge.to(memory_format=layout).train()
        self.guidance = None
        if isinstance(model, V2LModel) and model.guidance is not None:
            assert isinstance(self.processor, V2LProcessor)  # as the model is one
            self.guidance = TowerGuidance(model, self.processor.image_processor, self.source, device)
        self.feeder = Feeder(
            config,
            self.source,
            model.config.image_size,
            accelerator.num_processes,
            accelerator.process_index,
            self.guidance.view if self.guidance is not None else None,
            pin_memory=device.type == "cuda",
        )
        self.total_steps, warmup = count_steps(config, self.feeder.steps_per_epoch)
        self.state = make_state(config, self.objective, self.total_steps, warmup, device)
        if config.compile:
            model.compile()
        self.stepper = Stepper(
            config, accelerator, self.objective, self.state, self.guidance, self._describe, self.checkpoints.latest
        )
        self._samples: tuple[torch.Tensor, dict[str, torch.Tensor]] | None = None

    def train(self) -> TrainingReport:
        """Trains until the last step, the end of time or a signal, and writes everything that comes of it.

        Raises:
            UserError: If a picture is damaged, a term is not finite, or the disk is full.
        """
        try:
            with StopWatch(self.config.max_minutes, self.state.seconds) as watch:
                self.log = RunLog(self.config.folder, self.accelerator, self.config.as_dict(), self.state.step)
                stopped_by = self._loop(watch)
                return self._finish(stopped_by)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            raise UserError(
                f"The disk is full ({error}), so the run stops: make room and start again with --resume latest "
                f"(last checkpoint: {self.checkpoints.latest() or 'none'})."
            ) from error
        finally:
            self._close()

    def _loop(self, watch: StopWatch) -> str:
        """Takes the steps; says what ended them."""
        config, state = self.config, self.state
        self._announce()
        saved, stop = self.resumed_step, None
        since = (state.step, watch.seconds)
        steps = self.feeder.steps(state.step, state.position)
        while stop is None and (self.total_steps is None or state.step < self.total_steps):
            batches = self._next(steps, watch)
            if batches is None:
                stop = watch.received
                break
            if 0 < state.step == config.unquantized_steps:
                self._fit_codebook()
            terms, stop = self.stepper.take(batches, watch)
            state.seconds, state.position = watch.seconds, self.feeder.position
            if self.on_step is not None:
                self.on_step(state.step, terms)
            is_last = stop is not None or state.step == self.total_steps
            if is_last or state.step % config.log_every == 0:
                since = self._record(since, watch)
            if is_last or self._is_due(config.checkpoint_every):
                self._save()
                saved = state.step
            if self._is_due(config.sample_every) or (is_last and config.sample_every):
                self._save_samples()
        steps.close()
        if saved != state.step:
            self._save()
        return stop or "steps"

    @torch.no_grad()
    def _fit_codebook(self) -> None:
        """Moves the codes to where the latents of some pictures lie, in all processes to the same places."""
        config, accelerator, model = self.config, self.accelerator, self.model
        parts = to_pixel_values(self.feeder.spread(FITTED_PICTURES), accelerator.device, config.channels_last)
        with accelerator.autocast():
            latents = [model.encode(part).latents for part in parts.split(config.batch_size)]
        rows = torch.cat([found.float() for found in latents if found is not None])  # there is a local half
        model.fit_codebook(rows, torch.Generator().manual_seed(config.seed))
        for parameter in model.trainable_parameters() if accelerator.num_processes > 1 else ():
            broadcast(parameter.data)
        if self.state.average is not None:  # an average with the codes' random start would undo this
            for averaged, parameter in zip(self.state.average.shadow_params, model.trainable_parameters(), strict=True):
                averaged.copy_(parameter)

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.state.step % every == 0

    def _next(self, steps: Iterator[list[Batch]], watch: StopWatch) -> list[Batch] | None:
        """The next step's batches; None if a signal took along the processes that read them."""
        try:
            batches = next(steps)
        except RuntimeError:
            if watch.received is None:
                raise
            return None
        for problem in self.feeder.take_problems():
            self.log.warn(f"left out: {problem}")
        return batches

    def _announce(self) -> None:
        trained = sum(parameter.numel() for parameter in self.model.trainable_parameters())
        pictures = self.source.count or "a stream of"
        cached = ", kept in memory" if self.feeder.table is not None and self.feeder.table.is_cached else ""
        start = f"from step {self.state.step}" if self.resumed_step is not None else "from the beginning"
        self.log.say(
            f"training {self.model.config.model_type} ({trained:,} parameters) {start} to "
            f"{f'step {self.total_steps}' if self.total_steps else 'the end of time'} on {pictures} pictures of "
            f"{' + '.join(self.source.names)}{cached}; {self.accelerator.num_processes} process(es) on "
            f"{self.accelerator.device}, {torch.get_num_threads()} threads; perceptual loss: "
            f"{self.objective.perceptual_name or 'none'}"
        )

    def _describe(self, pixel_values: torch.Tensor, tokens: torch.Tensor) -> None:
        self.log.describe_batch(pixel_values, tokens, codebook_size_of(self.model))

    def _record(self, since: tuple[int, float], watch: StopWatch) -> tuple[int, float]:
        """Writes the means of the terms since the last line; where and when that was."""
        state, processes = self.state, self.accelerator.num_processes
        means = {name: total / count for name, (total, count) in state.sums.items()}
        usage = state.monitor.usage()
        steps, seconds = state.step - since[0], watch.seconds - since[1]
        state.final_terms = {**means, "codebook_usage": usage}
        state.sums = {}
        extra = {
            "learning_rate": state.learning_rate,
            "images_per_second": steps * self._images_per_step / max(seconds, 1e-9),
        }
        if per_epoch := self.feeder.steps_per_epoch:
            extra["epoch"] = state.step / per_epoch
        self.log.record(state.step, self.total_steps, {**state.final_terms, **extra})
        if line := state.monitor.warning(usage, processes):
            self.log.warn(line)
        return state.step, watch.seconds

    @property
    def _images_per_step(self) -> int:
        return self.feeder.share.together * self.config.gradient_accumulation

    def _save(self) -> None:
        """Writes a checkpoint; all processes learn whether it worked."""
        values, problem = self.state.collect(self.accelerator), None
        if self.accelerator.is_main_process:
            progress = {"step": self.state.step, "settings": self.settings, "versions": versions()}
            try:
                self.checkpoints.write(self.state.step, self._save_model, self.state.tensors(), values, progress)
            except UserError as error:
                problem = str(error)
        (problem,) = broadcast_object_list([problem])
        if problem:
            raise UserError(problem)

    def _save_model(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    @contextmanager
    def _averaged(self) -> Generator[None, None, None]:
        """The model with the moving average of its weights, in evaluation, for as long as the block runs."""
        average, parameters = self.state.average, self.model.trainable_parameters()
        if average is not None:
            average.store(parameters)
            average.copy_to(parameters)
        self.model.eval()
        try:
            yield
        finally:
            self.model.train()
            if average is not None:
                average.restore(parameters)

    @torch.no_grad()
    def _save_samples(self) -> None:
        """Writes originals and reconstructions of the same few pictures each time."""
        if not self.accelerator.is_main_process:
            return
        if self._samples is None:
            pixels, pictures = self.feeder.preview(self.config.num_samples)
            inputs = {}
            if self.guidance is not None:
                inputs[self.guidance.field] = self.guidance.of_pictures(pictures)
            originals = to_pixel_values(pixels, self.accelerator.device, self.config.channels_last)
            self._samples = originals, inputs
        else:
            originals, inputs = self._samples
        with self._averaged(), self.accelerator.autocast():
            output = self.model(pixel_values=originals, **inputs)
        self.log.save_samples(self.state.step, originals, output.pixel_values)

    def _finish(self, stopped_by: str) -> TrainingReport:
        """Writes the model and the report."""
        state, config, accelerator = self.state, self.config, self.accelerator
        images = state.step * self._images_per_step
        report = TrainingReport(
            model_type=self.model.config.model_type,
            stopped_by=stopped_by,
            steps=state.step,
            images_seen=images,
            seconds=state.seconds,
            images_per_second=images / max(state.seconds, 1e-9),
            processes=accelerator.num_processes,
            device=str(accelerator.device),
            peak_memory_bytes=peak_memory(accelerator.device),
            trainable_parameters=sum(parameter.numel() for parameter in self.model.trainable_parameters()),
            terms=state.final_terms,
            perceptual=self.objective.perceptual_name,
            data=self.source.record,
            config=config.as_dict(),
            model_config=self.model.config.to_dict(),
            versions=versions(),
        )
        if accelerator.is_main_process:
            with self._averaged():
                write_folder(config.folder / MODEL_FOLDER, self._save_model)
            report.save(config.folder)
        accelerator.wait_for_everyone()
        return report

    def _close(self) -> None:
        # gloo aborts the interpreter's end where a wrapped model is still alive
        del self.stepper.model, self.stepper.judge
        release_accelerator(self.accelerator)


__all__ = ["Trainer"]
