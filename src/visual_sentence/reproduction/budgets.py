"""How much is spent on the tables: which models, how many pictures, how many steps."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..codebook.steps import digest
from ..errors import UserError
from ..image_io import open_image_source
from .workspace import NotRunnableError

# What the tables read, where it lies under the folder of --data, and what the papers took.
DATA = {
    "train-pictures": ("tiny-imagenet/train.parquet", "photographs to train tokenizers on (ImageNet-1K, training set)"),
    "test-pictures": ("tiny-imagenet/val.parquet", "photographs to measure on (ImageNet-1K, validation set)"),
    "episodes": ("few-shot/episodes-dev.parquet", "few-shot episodes (Mini-ImageNet)"),
    "road-train": ("camvid/train.parquet", "street scenes with label maps to train on (SA-1B)"),
    "road-test": ("camvid/test.parquet", "street scenes with label maps to measure on (SA-1B)"),
    "pascal": ("VOCdevkit/VOC2012", "PASCAL VOC 2012 with its segmentations"),
}

END = 1 << 16  # bytes at each end of a file that tell it from others; Parquet's last ones count and describe its rows


@dataclass(frozen=True)
class Sizes:
    """Sizes of a budget's runs; every number is recorded with the cells that depend on it.

    Args:
        tokenizer_steps: Steps of each tokenizer of the V2L tables, of 8 pictures.
        train_slice: Which of `train-pictures` they are trained on.
        test_slice: Which of `test-pictures` reconstructions are measured on.
        restored: Pictures of a restoration, the first of `test_slice`.
        ablated: The same in figure 11.
        episodes: Episodes of each number of ways and shots.
        most_repeats: Repetitions of the examples beyond which columns are left out.
        candidates: Every so many words of the vocabulary are expanded to bigrams and trigrams.
        frozen_steps: Steps of the mapping of Frozen, of 16 pictures.
        sentence_pictures: Drawn shapes of each task of sentences.
        road_slice: Which streets are trained on.
        road_draws: How often each of them is drawn.
        vqgan_steps: Steps of each VQGAN of sentences, of 8 pictures.
        sentence_steps: Steps of each language model of sentences, of 4 sentences.
        tuning_steps: The same behind a codebook's reduction.
        queries: Queries of each task of sentences.
        prompt_sets: Sets of pairs for each of them.
    """

    tokenizer_steps: int = 300
    train_slice: str = "[::5]"
    test_slice: str = "[::16]"
    restored: int = 6
    ablated: int = 6
    episodes: int = 8
    most_repeats: int = 1
    candidates: int = 8
    frozen_steps: int = 60
    sentence_pictures: int = 1500
    road_slice: str = ""
    road_draws: int = 5
    vqgan_steps: int = 800
    sentence_steps: int = 200
    tuning_steps: int = 40
    queries: int = 40
    prompt_sets: int = 2


@dataclass(frozen=True)
class Budget:
    """A budget.

    Args:
        name: As the command takes it.
        trains: Whether models that are not given are trained.
        sizes: How much of everything.
        models: References of models by name, over which `--models` goes.
    """

    name: str
    trains: bool
    sizes: Sizes
    models: dict[str, str] = field(default_factory=dict)


OFFLINE = {"llm": "offline", "words": "offline", "encoder": "offline"}
BUDGETS = {
    "smoke": Budget(
        "smoke",
        True,
        Sizes(
            tokenizer_steps=4,
            train_slice="[:64]",
            test_slice="[:8]",
            restored=1,
            ablated=1,
            episodes=1,
            candidates=400,
            frozen_steps=2,
            sentence_pictures=40,
            road_slice="[:8]",
            road_draws=1,
            vqgan_steps=6,
            sentence_steps=3,
            tuning_steps=2,
            queries=2,
            prompt_sets=1,
        ),
        OFFLINE,
    ),
    "cpu": Budget("cpu", True, Sizes(), OFFLINE),
    "full": Budget(
        "full",
        False,
        Sizes(test_slice="", restored=5000, ablated=5000, episodes=2000, most_repeats=5, queries=500),
        {
            "llm": "meta-llama/Llama-2-7b-hf",
            "llm-13b": "meta-llama/Llama-2-13b-hf",
            "llm-70b": "meta-llama/Llama-2-70b-hf",
            "encoder": "openai/clip-vit-large-patch14",
            "seggpt": "BAAI/seggpt-vit-large",
        },
    ),
}


class Data:
    """Where the data lies.

    Args:
        given: `--data`: a folder that holds all of `DATA`, and `NAME=REFERENCE` for what lies elsewhere.

    Raises:
        UserError: If a name is unknown, a reference is empty or a folder is not there.
    """

    def __init__(self, given: Sequence[str] = ()):
        self.root: Path | None = None
        self.named: dict[str, str] = {}
        for text in given:
            name, equals, reference = text.partition("=")
            if not equals:
                self.root = Path(text).expanduser()
                if not self.root.is_dir():
                    raise UserError(f"--data {text} is no folder: give the one that holds {', '.join(_places())}.")
            elif name not in DATA:
                raise UserError(f"--data {text}: there is no {name!r}; the tables read {', '.join(DATA)}.")
            elif not reference:
                raise UserError(f"--data {text}: write NAME=REFERENCE, such as {name}=FOLDER.")
            else:
                self.named[name] = reference

    def __getitem__(self, name: str) -> str:
        """The reference of some data.

        Raises:
            NotRunnableError: If it was not given.
        """
        if name in self.named:
            return self.named[name]
        place, what = DATA[name]
        if self.root is not None and (self.root / place).exists():
            return str(self.root / place)
        where = f"{place} in the folder of --data, or --data {name}=REFERENCE"
        raise NotRunnableError(f"needs {what}: {where}")

    def described(self, name: str, part: str = "") -> str:
        """What the records say was read: the data's name and part, and what tells its files from others.

        Args:
            name: One of `DATA`.
            part: Which of them, such as "[::8]".
        """
        try:
            reference = self[name]
        except NotRunnableError:
            return f"{name}{part}"
        return f"{name}-{_mark(reference)}{part}"

    def pictures(self, name: str, part: str = ""):
        """Pictures of some data.

        Args:
            name: One of `DATA`.
            part: Which of them, such as "[::8]".

        Raises:
            NotRunnableError: If it was not given.
        """
        return open_image_source(self[name] + part)


def _mark(reference: str) -> str:
    """The same for the same files wherever they lie, another for others: of sizes, names in a folder, ends of files."""
    match = re.fullmatch(r"(.*?)(\[[^\]]*\])?", reference)
    place, part = (reference, "") if match is None else match.groups("")  # a line break is no file's
    path = Path(place).expanduser()
    found: Any = place
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(END)
            file.seek(max(0, path.stat().st_size - END))
            found = [path.stat().st_size, sha256(head + file.read()).hexdigest()]
    elif path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.is_file())
        found = [[one.relative_to(path).as_posix(), one.stat().st_size] for one in files]
    return digest([found, part])[:10]


def _places() -> list[str]:
    return [place for place, _ in DATA.values()]


def parse_models(given: Sequence[str]) -> dict[str, str]:
    """Models by name, of `NAME=REFERENCE`.

    Raises:
        UserError: If one has another form.
    """
    models = {}
    for text in given:
        name, equals, reference = text.partition("=")
        if not equals or not name or not reference:
            raise UserError(f"--models {text}: write NAME=REFERENCE, such as llm=meta-llama/Llama-2-7b-hf.")
        models[name] = reference
    return models


def find_budget(name: str) -> Budget:
    """The budget of that name.

    Raises:
        UserError: If there is none.
    """
    if name not in BUDGETS:
        raise UserError(f"There is no budget {name!r}: choose one of {', '.join(BUDGETS)}.")
    return BUDGETS[name]


__all__ = ["BUDGETS", "DATA", "Budget", "Data", "Sizes", "find_budget", "parse_models"]
