"""What is to be published: a model folder, looked at before anything is written or sent."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from ..errors import UserError
from ..model_types import MODELS
from ..references import LOADING_ERRORS, unreachable
from ..shipped import DEFAULT, SHIPPED, preset_folder

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
GENERATION_CONFIG = "generation_config.json"
WORDS, LOCAL_WORDS = "codebook.json", "local_vocabulary.json"
PROCESSOR, IMAGE_PROCESSOR = "processor_config.json", "preprocessor_config.json"
CARD, REPORT, RUN_MODEL = "README.md", "training.json", "model"
# Formats that can run code when they are read.
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
# Names of what `visual-sentence evaluate --json` printed.
MEASUREMENTS = "evaluation*.json"


@dataclass(frozen=True)
class Source:
    """A model folder that can be published.

    Args:
        name: What it is called: the folder's name, or that of the training run around it.
        folder: Where it lies.
        config: Its configuration.
        model_class: What `AutoModel` makes of it.
        weights: Its safetensors files and, for several, their index, by name.
    """

    name: str
    folder: Path
    config: PretrainedConfig
    model_class: type[PreTrainedModel]
    weights: tuple[str, ...]

    def has(self, name: str) -> bool:
        """Whether the folder has a file of this name."""
        return (self.folder / name).is_file()

    @property
    def processor(self) -> str | None:
        """The file that its processor or image processor is described in; None without one."""
        return next((name for name in (PROCESSOR, IMAGE_PROCESSOR) if self.has(name)), None)

    @property
    def processor_class(self) -> str | None:
        """The class of transformers that loads it; None without one."""
        return {PROCESSOR: "AutoProcessor", IMAGE_PROCESSOR: "AutoImageProcessor"}.get(self.processor or "")

    @cached_property
    def values(self) -> int:
        """How many numbers the weights are."""
        total = 0
        for name in self.weights:
            if name != INDEX:
                with safe_open(self.folder / name, "pt") as tensors:
                    for key in tensors.keys():  # noqa: SIM118  (no mapping)
                        shape, count = tensors.get_slice(key).get_shape(), 1
                        for side in shape:
                            count *= side
                        total += count
        return total

    @property
    def report(self) -> dict[str, Any] | None:
        """What its training wrote of itself; None where nothing is left of it."""
        return next(iter(self._read_beside(REPORT)), None)

    @property
    def measurements(self) -> list[dict[str, Any]]:
        """What was measured of it, as `visual-sentence evaluate --json > evaluation.json` wrote it."""
        return [one for one in self._read_beside(MEASUREMENTS) if isinstance(one, dict)]

    def _read_beside(self, pattern: str) -> list[Any]:
        """JSON files of the folder, and of the training run that it is the result of."""
        places = [self.folder, self.folder.parent] if self.folder.name == RUN_MODEL else [self.folder]
        return [read_json(path) for place in places for path in sorted(place.glob(pattern))]


def find_source(model: str) -> Source:
    """Looks at what a user wants to publish.

    Args:
        model: A folder, or the name of a folder of hub_configs/ that holds weights.

    Raises:
        UserError: If there is no such folder, it holds no model of this package, it lacks weights, they are damaged,
            or some of them are pickled.
    """
    folder = _find_folder(model)
    if not (folder / CONFIG).is_file():
        if (folder / RUN_MODEL / CONFIG).is_file():
            raise UserError(f"{model} is a training run, whose model is in {folder / RUN_MODEL}: give that folder.")
        raise UserError(f"{model} has no config.json, so it is no model folder: give what save_pretrained wrote.")
    _refuse_pickles(model, folder)
    config, model_class = _read_config(model, folder)
    absolute = folder.resolve()
    name = absolute.parent.name if absolute.name == RUN_MODEL else absolute.name
    return Source(name, absolute, config, model_class, _find_weights(model, folder))


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: If it is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}), so what it says cannot be published.") from error


def _find_folder(model: str) -> Path:
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if model == DEFAULT:
        names = " or ".join(SHIPPED.values())
        raise UserError(f"Several models ship, so {DEFAULT!r} does not say which: give {names}.")
    if re.fullmatch(r"[\w-]+", model) and not path.exists():
        preset = preset_folder(model)
        if preset.is_dir():
            return preset
    found = "a file" if path.is_file() else "nothing"
    raise UserError(
        f"{model}: found {found} there, but what is published is a model folder, or a model that ships "
        f"({', '.join(SHIPPED.values())}): check the path."
    )


def _refuse_pickles(model: str, folder: Path) -> None:
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickled:
        raise UserError(
            f"{model} holds {', '.join(pickled[:3])}: such files can run code when they are read, so only safetensors "
            "are published; load the model, save_pretrained it into another folder, and give that one."
        )


def _find_weights(model: str, folder: Path) -> tuple[str, ...]:
    """The names of the weights' files that loading reads.

    Raises:
        UserError: If there are none, some are missing, or one is damaged.
    """
    names = [WEIGHTS]
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        index = read_json(folder / INDEX)
        names = [*sorted(set(index.get("weight_map", {}).values())), INDEX]
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise UserError(f"{model} lacks {missing[0]}, which its index names: copy the folder anew.")
    elif not (folder / WEIGHTS).is_file():
        raise UserError(f"{model} has a configuration but no weights ({WEIGHTS}): train it, or give another folder.")
    for name in names:
        if name == INDEX:
            continue
        try:
            with safe_open(folder / name, "pt") as tensors:
                tensors.keys()
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{folder / name} is damaged, or only a pointer to a file that was never fetched ({error}): "
                "fetch or save it again."
            ) from error
    return tuple(names)


def _read_config(model: str, folder: Path) -> tuple[PretrainedConfig, type[PreTrainedModel]]:
    kind = read_json(folder / CONFIG).get("model_type")
    classes = {config_class.model_type: model_class for config_class, model_class, _ in MODELS}
    if kind not in classes:
        raise UserError(
            f"{model} is a {kind or 'nameless'} model, and what is published here are models of the kinds "
            f"{', '.join(classes)}: load it with its own library and call its push_to_hub."
        )
    try:
        return AutoConfig.from_pretrained(folder), classes[kind]
    except LOADING_ERRORS as error:
        raise unreachable(model, error) from error


__all__ = ["Source", "find_source", "read_json"]
