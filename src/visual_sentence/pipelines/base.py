"""What all pipelines of this package share: how pictures come in, stream through and fail, and the language model.

A task writes three methods: `read` (one picture to tensors), `answer` (a batch of them to rows) and `finish` (one
row to what the user gets). transformers' `Pipeline` does the rest: batches, workers, devices.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence, Sized
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from transformers import Pipeline

from ..completion import CompletionModel, LocalCompletions, is_served, load_completion_model
from ..errors import UserError
from ..hub_code import add_pipelines
from ..language import LanguageModel, load_language_model
from ..references import OFFLINE
from .inputs import READING_ERRORS, Picture, PictureStream, PictureTable, Unreadable, unreadable

ON_ERROR = ("raise", "report")


class VisualPipeline(Pipeline):
    """A pipeline over pictures.

    Subclasses set `task_name`, name their parameters in `forward_parameters` (given to `answer`) and
    `postprocess_parameters` (given to `finish`), and write `read`, `answer` and `finish`. What can be refused before a
    picture is read is refused in `check`.

    Args:
        model: The model of pictures.
        language_model: For tasks that ask one: a `LanguageModel`, a `CompletionModel`, or a reference ("offline", a
            folder, a Hub id, the address of an endpoint); by default the one that the model's words come from.
        **kwargs: As for every pipeline (`image_processor`, `device`, `batch_size`, ...); and defaults for what a call
            takes.
    """

    _load_image_processor = True
    _load_tokenizer = _load_processor = _load_feature_extractor = _load_video_processor = False

    # of the classes that the task is for, perhaps from the code that came with a model
    model: Any
    image_processor: Any

    task_name: str
    forward_parameters: tuple[str, ...] = ()
    postprocess_parameters: tuple[str, ...] = ()

    def __init__(
        self,
        *args: Any,
        language_model: LanguageModel | CompletionModel | str | Path | None = None,
        **kwargs: Any,
    ):
        self._language_model = language_model
        kwargs.setdefault("task", self.task_name)
        super().__init__(*args, **kwargs)
        if self.image_processor is None:
            raise UserError(f"{self.task_name} makes its views with the model's image processor: pass image_processor.")

    @abstractmethod
    def read(self, image: Any) -> dict[str, Any]:
        """Brings one picture into the model's form.

        Args:
            image: One input as the user gave it; `open_picture` opens it.

        Returns:
            Tensors [1, ...] on the CPU, of the same shape for every picture, and anything else that `answer` wants.

        Raises:
            UserError: If the picture cannot be used; what PIL raises for broken files may pass too.
        """

    @abstractmethod
    def answer(self, inputs: dict[str, Any], **parameters: Any) -> dict[str, Any]:
        """Answers for a batch.

        Args:
            inputs: What `read` gave for B pictures: tensors [B, ...] on the pipeline's device, lists of B else.
            **parameters: Those of `forward_parameters` that were given.

        Returns:
            Tensors or lists of B rows each, or None.
        """

    @abstractmethod
    def finish(self, row: dict[str, Any], **parameters: Any) -> Any:
        """Gives one picture's answer its final form.

        Args:
            row: The picture's part of what `answer` gave; tensors without the batch's dimension, on the CPU.
            **parameters: Those of `postprocess_parameters` that were given.
        """

    def check(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Refuses or rewrites the parameters of a call, or of the construction, before a picture is read.

        Args:
            parameters: Those that were given, of both kinds.
        """
        return parameters

    def __call__(self, inputs: Any, on_error: str | None = None, **kwargs: Any) -> Any:
        """Runs the task on pictures.

        Args:
            inputs: One picture (PIL, path, URL, array, tensor, or a mapping that holds one); a list or tuple of them;
                a data set or any iterator, which is read as answers are asked for.
            on_error: "raise" (default) ends at the first picture that cannot be read; "report" puts
                `{"error": one line}` into its place and goes on.
            **kwargs: `batch_size`, `num_workers`, and the task's own parameters.

        Returns:
            One answer for one picture, a list for a list or tuple, else an iterator.

        Raises:
            UserError: If a parameter is unknown or wrong, or a picture cannot be read.
        """
        if on_error is not None:
            kwargs["on_error"] = on_error
        if isinstance(inputs, (list, tuple)):
            return list(super().__call__(PictureTable(inputs), **kwargs)) if inputs else []
        if isinstance(inputs, Picture):
            return super().__call__(inputs, **kwargs)
        # transformers' streams begin anew whenever they are iterated, in the middle of a batch too
        if isinstance(inputs, Sized) and hasattr(inputs, "__getitem__"):
            return one_by_one(super().__call__(PictureTable(inputs), **kwargs))
        if isinstance(inputs, Iterable):
            return one_by_one(super().__call__(PictureStream(inputs), **kwargs))
        raise UserError(
            f"{self.task_name} takes pictures (PIL, a path, a URL, an array), a list of them or something that gives "
            f"one after another; got {type(inputs).__name__}."
        )

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Saves the model, its image processor, and the code of this pipeline and of the model.

        `pipeline(task, model=save_directory, trust_remote_code=True)` then works where this package is not installed.
        The language model is not saved; the model's config names it.

        Args:
            save_directory: The folder, which is made.
            **kwargs: For the model's `save_pretrained`.

        Raises:
            UserError: If it is to be uploaded at once, which `push_to_hub` does.
        """
        if kwargs.pop("push_to_hub", False):
            raise UserError("save_pretrained only writes a folder: call push_to_hub(repo_id) to upload the pipeline.")
        self.model.save_pretrained(save_directory, **kwargs)
        self.image_processor.save_pretrained(save_directory)
        add_pipelines(save_directory, [type(self)])

    @cached_property
    def language_model(self) -> LanguageModel:
        """The frozen language model in this process, loaded when it is first needed.

        Raises:
            UserError: If it cannot be loaded, or a served one was given.
        """
        source: Any = self._language_model_source
        if isinstance(source, str) and not is_served(source):
            return load_language_model(source, device=self.device.type)
        source = getattr(source, "language_model", source)  # of completions in this process
        if hasattr(source, "model") and hasattr(source, "tokenizer"):
            return source
        raise UserError(
            f"{self.task_name} works on token ids, which {getattr(source, 'name', source)} neither takes nor gives: "
            "pass a LanguageModel, a folder or a Hub id as language_model."
        )

    @cached_property
    def completion_model(self) -> CompletionModel:
        """The frozen language model as one that is asked in text, in this process or served.

        Raises:
            UserError: If it cannot be loaded or reached.
        """
        source: Any = self._language_model_source
        if hasattr(source, "complete"):
            return source
        if isinstance(source, str) and is_served(source):
            return load_completion_model(source)
        return LocalCompletions(self.language_model)

    # Told apart by what they can do: objects of the installed package may meet this code as it came with a model.
    @property
    def _language_model_source(self) -> LanguageModel | CompletionModel | str:
        source = self._language_model or getattr(self.model.config, "language_model", None) or OFFLINE
        return str(source) if isinstance(source, PathLike) else source

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        on_error = {"on_error": kwargs.pop("on_error")} if "on_error" in kwargs else {}
        if on_error and on_error["on_error"] not in ON_ERROR:
            raise UserError(f"Unknown on_error {on_error['on_error']!r}: choose one of {', '.join(ON_ERROR)}.")
        known = (*self.forward_parameters, *self.postprocess_parameters)
        unknown = sorted(set(kwargs) - set(known))
        if unknown:
            raise UserError(
                f"{self.task_name} does not know {', '.join(unknown)}, so it would change nothing: it takes "
                f"{', '.join((*known, 'on_error', 'batch_size', 'num_workers'))}."
            )
        kwargs = self.check(kwargs)
        forward = {name: kwargs[name] for name in self.forward_parameters if name in kwargs}
        postprocess = {name: kwargs[name] for name in self.postprocess_parameters if name in kwargs}
        return {}, {**forward, **on_error}, postprocess

    # Pictures pass transformers' iterators as opaque rows, so that a broken one can stand among good ones.
    def preprocess(self, input_: Any) -> dict[str, Any]:
        """One picture as `{"row": Row}`; a broken one as a row that says what is wrong with it."""
        try:
            if isinstance(input_, Unreadable):
                raise input_.error
            return {"row": {"inputs": dict(self.read(input_)), "error": None}}
        except READING_ERRORS as error:
            return {"row": {"inputs": None, "error": str(unreadable(input_, error))}}

    def _forward(self, model_inputs: dict[str, Any], on_error: str = "raise", **parameters: Any) -> dict[str, Any]:
        batched = isinstance(model_inputs["row"], list)  # by transformers, where batch_size is above one
        rows = model_inputs["row"] if batched else [model_inputs["row"]]
        errors = [row["error"] for row in rows]
        if on_error == "raise" and any(errors):
            raise UserError(next(line for line in errors if line))
        good = [row["inputs"] for row in rows if row["error"] is None]
        answers = iter(split(self.answer(join(good), **parameters), len(good)) if good else ())
        outputs = [{"outputs": None if line else next(answers), "error": line} for line in errors]
        return {"row": outputs if batched else outputs[0]}

    def postprocess(self, model_outputs: dict[str, Any], **parameters: Any) -> Any:
        """The answer of one picture, or `{"error": line}`."""
        row = model_outputs["row"]
        return {"error": row["error"]} if row["error"] else self.finish(row["outputs"], **parameters)


def one_by_one(answers: Iterable[Any]) -> Iterator[Any]:
    """The answers, each once."""
    yield from answers


def join(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What `read` gave for B pictures, as one batch: tensors [B, ...], lists of B of everything else."""
    return {
        name: torch.cat([item[name] for item in items])
        if isinstance(first, torch.Tensor)
        else [item[name] for item in items]
        for name, first in items[0].items()
    }


def split(outputs: dict[str, Any], size: int) -> list[dict[str, Any]]:
    """The rows of a batch's answer: the reverse of `join`, without the batch's dimension."""
    for name, value in outputs.items():
        if value is not None and len(value) != size:
            raise ValueError(f"answer() gave {len(value)} rows of {name!r} for {size} pictures.")
    return [{name: None if value is None else value[index] for name, value in outputs.items()} for index in range(size)]
