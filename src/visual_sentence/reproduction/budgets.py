"""How much is spent on the tables: which models, how many pictures, how many steps."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..codebook.steps import digest
from ..errors import UserError
from ..image_io import open_image_source
from .workspace import NotRunnableError


@dataclass(frozen=True)
class DataSet:
    """Data that the tables read.

    Args:
        place: Where it lies under the folder of `--data`.
        what: What it is, in words.
        details: How it is laid out, and where the papers' own comes from; empty for a stand-in.
        split: Which split of a Hub id or of a saved data set is read.
    """

    place: str
    what: str
    details: str = ""
    split: str = "train"


IMAGENET = "on the Hub ILSVRC/imagenet-1k, once its terms are accepted: research and education, not commercial"
MINI_IMAGENET = (
    "a table with the columns way, shot, class_names, support_images, support_labels, query_image and query_label, "
    "drawn from the test classes of Ravi and Larochelle's split of Mini-ImageNet, whose pictures are ImageNet's"
)
SA_1B = (
    "NAME.jpg beside NAME.json, as its archives unpack; of ai.meta.com/datasets/segment-anything, under the SA-1B "
    "Dataset Research License"
)
MONUSEG = (
    "images/ and masks/ with files of the same names, 0 and 255, or Parquet files with the columns image and mask; of "
    "monuseg.grand-challenge.org, whose outlines are drawn as masks, or on the Hub RationAI/MoNuSeg, whose instances "
    "are put together; CC BY-NC-SA 4.0"
)
# What the tables read: stand-ins that fit on a small machine, and what has none.
DATA = {
    "train-pictures": DataSet(
        "tiny-imagenet/train.parquet", "photographs to train tokenizers on (ImageNet-1K, training set)"
    ),
    "test-pictures": DataSet("tiny-imagenet/val.parquet", "photographs to measure on (ImageNet-1K, validation set)"),
    "episodes": DataSet("few-shot/episodes-dev.parquet", "few-shot episodes (Mini-ImageNet)"),
    "road-train": DataSet("camvid/train.parquet", "street scenes with label maps to train on"),
    "road-test": DataSet("camvid/test.parquet", "street scenes with label maps to measure on"),
    "sa1b": DataSet("sa1b", "pictures of SA-1B that no model was trained on, with all masks", SA_1B),
    "monuseg-train": DataSet("monuseg/train", "MoNuSeg's training pictures with masks, to take pairs from", MONUSEG),
    "monuseg-test": DataSet("monuseg/test", "MoNuSeg's test pictures with masks", MONUSEG),
}
# What the papers took, in place of the stand-ins.
PAPERS_DATA = {
    **DATA,
    "train-pictures": DataSet(
        "imagenet/train", "ImageNet-1K's training set", f"a folder of pictures, searched recursively; {IMAGENET}"
    ),
    "test-pictures": DataSet(
        "imagenet/val",
        "ImageNet-1K's validation set",
        f"a folder of pictures, searched recursively; {IMAGENET}",
        "validation",
    ),
    "episodes": DataSet("mini-imagenet/episodes.parquet", "episodes of Mini-ImageNet", MINI_IMAGENET),
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
        data: What it reads, by the names of `DATA`.
    """

    name: str
    trains: bool
    sizes: Sizes
    models: dict[str, str] = field(default_factory=dict)
    data: Mapping[str, DataSet] = field(default_factory=lambda: DATA)


OFFLINE = dict.fromkeys(("llm", "words", "encoder", "masked-lm"), "offline")
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
        Sizes(train_slice="", test_slice="", restored=5000, ablated=5000, episodes=2000, most_repeats=5, queries=500),
        {
            "llm": "meta-llama/Llama-2-7b-hf",
            "llm-13b": "meta-llama/Llama-2-13b-hf",
            "llm-70b": "meta-llama/Llama-2-70b-hf",
            "encoder": "openai/clip-vit-large-patch14",
            "seggpt": "BAAI/seggpt-vit-large",
        },
        PAPERS_DATA,
    ),
}


class Data:
    """Where the data lies.

    Args:
        given: `--data`: a folder that holds all of `known`, and `NAME=REFERENCE` for what lies elsewhere.
        known: What can be given.

    Raises:
        UserError: If a name is unknown, a reference is empty or a folder is not there.
    """

    def __init__(self, given: Sequence[str] = (), known: Mapping[str, DataSet] = DATA):
        self.known = known
        self.root: Path | None = None
        self.named: dict[str, str] = {}
        self._marks: dict[str, str] = {}
        for text in given:
            name, equals, reference = text.partition("=")
            if not equals:
                self.root = Path(text).expanduser()
                if not self.root.is_dir():
                    places = ", ".join(one.place for one in known.values())
                    raise UserError(f"--data {text} is no folder: give the one that holds {places}.")
            elif name not in known:
                raise UserError(f"--data {text}: there is no {name!r}; the tables read {', '.join(known)}.")
            elif not reference:
                raise UserError(f"--data {text}: write NAME=REFERENCE, such as {name}=FOLDER.")
            else:
                self.named[name] = reference

    def __contains__(self, name: str) -> bool:
        """Whether some data was given."""
        return self._find(name) is not None

    def __getitem__(self, name: str) -> str:
        """The reference of some data.

        Raises:
            NotRunnableError: If it was not given; the message says how it is laid out and where it comes from.
        """
        found = self._find(name)
        if found is None:
            wanted = self.known[name]
            where = f"{wanted.place} in the folder of --data, or --data {name}=REFERENCE"
            raise NotRunnableError("; ".join(filter(None, (f"needs {wanted.what}: {where}", wanted.details))))
        return found

    def _find(self, name: str) -> str | None:
        if name in self.named:
            return self.named[name]
        place = self.known[name].place
        return str(self.root / place) if self.root is not None and (self.root / place).exists() else None

    def missing(self, names: Sequence[str]) -> list[str]:
        """For each data set of these that was not given what to give."""
        found = []
        for name in names:
            try:
                self[name]
            except NotRunnableError as reason:
                found.append(str(reason))
        return found

    def described(self, name: str, part: str = "") -> str:
        """What the records say was read: the data's name and part, and what tells its files from others.

        Args:
            name: One of `DATA`.
            part: Which of them, such as "[::8]".
        """
        reference = self._find(name)
        if reference is None:
            return f"{name}{part}"
        if reference not in self._marks:  # once a run: there are folders of a million files
            self._marks[reference] = _mark(reference)
        return f"{name}-{self._marks[reference]}{part}"

    def pictures(self, name: str, part: str = ""):
        """Pictures of some data.

        Args:
            name: One of `DATA`.
            part: Which of them, such as "[::8]".

        Raises:
            NotRunnableError: If it was not given.
        """
        return open_image_source(self[name] + part, self.known[name].split)


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


__all__ = ["BUDGETS", "DATA", "Budget", "Data", "DataSet", "Sizes", "find_budget", "parse_models"]
