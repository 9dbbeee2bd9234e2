"""How much is spent, and where models and data come from: every mistake told in one line."""

import re
from dataclasses import fields

import pytest
from datasets import Dataset, DatasetDict, Features
from datasets import Image as ImageFeature
from PIL import Image

from visual_sentence import UserError
from visual_sentence.image_io import open_image_source, split_slice
from visual_sentence.reproduction.budgets import BUDGETS, DATA, Data, Sizes, find_budget, parse_models
from visual_sentence.reproduction.workspace import NotRunnableError

# Of these a smaller one is more work; the slices choose rows of sets that are at least so long.
EVERY_SO_MANY, SLICES = "candidates", {"train_slice": 100_000, "test_slice": 10_000, "road_slice": 367}


@pytest.fixture
def root(tmp_path):
    """A folder that holds all of `DATA` but the episodes."""
    for name, one in DATA.items():
        if name != "episodes":
            (tmp_path / "root" / one.place).mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
def picture_folder(pictures, tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{number}.png")
    return folder


def work(sizes: Sizes, name: str) -> float:
    value = getattr(sizes, name)
    if name in SLICES:
        return len(range(SLICES[name])[split_slice(f"data{value}")[1]])
    return 1 / value if name == EVERY_SO_MANY else value


def test_there_are_three_budgets_by_their_own_names():
    assert {name: budget.name for name, budget in BUDGETS.items()} == {"smoke": "smoke", "cpu": "cpu", "full": "full"}
    assert [budget.trains for budget in BUDGETS.values()] == [True, True, False]


@pytest.mark.parametrize("name", [field.name for field in fields(Sizes)])
def test_a_smoke_run_is_of_nothing_larger_than_a_run_on_a_cpu_and_still_of_something(name):
    assert 0 < work(BUDGETS["smoke"].sizes, name) <= work(BUDGETS["cpu"].sizes, name)


@pytest.mark.parametrize("name", ["test_slice", "restored", "ablated", "episodes", "queries"])
def test_a_full_run_measures_more_than_a_run_on_a_cpu(name):
    assert work(BUDGETS["full"].sizes, name) > work(BUDGETS["cpu"].sizes, name)


def test_an_unknown_budget_is_refused():
    with pytest.raises(UserError, match=r"^There is no budget 'gpu': choose one of smoke, cpu, full\.$"):
        find_budget("gpu")
    assert find_budget("cpu") is BUDGETS["cpu"]


def test_a_folder_holds_data_under_names_of_its_own(root):
    data = Data([str(root)])
    assert data["road-train"] == str(root / "camvid" / "train.parquet")
    assert data["sa1b"] == str(root / "sa1b") and "monuseg-test" in data and "episodes" not in data


def test_data_that_is_named_goes_before_the_folder(root):
    data = Data([str(root), "road-train=elsewhere.parquet?a=b"])
    assert data["road-train"] == "elsewhere.parquet?a=b"
    assert data["road-test"] == str(root / "camvid" / "test.parquet")


@pytest.mark.parametrize("name", DATA)
def test_data_that_was_not_given_says_what_to_give(name):
    with pytest.raises(NotRunnableError) as missing:
        Data()[name]
    wanted = DATA[name]
    said = f"needs {wanted.what}: {wanted.place} in the folder of --data, or --data {name}=REFERENCE"
    assert str(missing.value) == said + ("; " + wanted.details if wanted.details else "")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "train-pictures",
            r"imagenet/train .*--data train-pictures=REFERENCE; a folder of pictures, .*ILSVRC/imagenet-1k",
        ),
        (
            "test-pictures",
            r"imagenet/val .*; a folder of pictures, .* on the Hub ILSVRC/imagenet-1k, .* not commercial$",
        ),
        ("episodes", r"mini-imagenet/episodes\.parquet .*; a table with the columns way, shot, .*Ravi and Larochelle"),
        (
            "sa1b",
            r"sa1b in .*; NAME\.jpg beside NAME\.json, .*ai\.meta\.com/datasets/segment-anything, .*Research License$",
        ),
        (
            "monuseg-train",
            r"monuseg/train .*; images/ and masks/ .*grand-challenge\.org.*RationAI/MoNuSeg.*CC BY-NC-SA 4\.0$",
        ),
        ("monuseg-test", r"monuseg/test .*; images/ and masks/ .*"),
    ],
)
def test_a_full_run_names_the_papers_data_its_layout_source_and_terms(name, said):
    with pytest.raises(NotRunnableError, match=said):
        Data((), BUDGETS["full"].data)[name]


def test_a_full_run_does_not_take_a_stand_in_for_the_papers_data(root):
    assert "test-pictures" in Data([str(root)]) and "test-pictures" not in Data([str(root)], BUDGETS["full"].data)
    assert Data([f"test-pictures={root}"], BUDGETS["full"].data)["test-pictures"] == str(root)


def test_all_that_is_missing_is_said_in_order(root):
    data = Data([str(root)])
    assert data.missing(["road-test", "sa1b"]) == [] and len(Data().missing(["sa1b", "episodes"])) == 2
    (reason,) = data.missing(["sa1b", "episodes"])
    assert reason.startswith("needs few-shot episodes (Mini-ImageNet): few-shot/")


def test_pictures_to_measure_on_are_the_validation_split_of_the_papers_data(picture_folder, tmp_path):
    shown = [open_image_source(f"{picture_folder}{part}") for part in ("[:1]", "[1:3]")]
    tables = [Dataset.from_dict({"image": list(one)}, Features({"image": ImageFeature()})) for one in shown]
    DatasetDict({"train": tables[0], "validation": tables[1]}).save_to_disk(tmp_path / "saved")
    data = Data([f"{name}={tmp_path / 'saved'}" for name in ("train-pictures", "test-pictures")], BUDGETS["full"].data)
    assert [data.pictures(name).count for name in ("train-pictures", "test-pictures")] == [1, 2]


def test_data_that_the_folder_lacks_says_what_to_give(root):
    with pytest.raises(NotRunnableError, match=r"few-shot/episodes-dev\.parquet .* --data episodes=REFERENCE"):
        Data([str(root)])["episodes"]


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(
            UserError, match=rf"^--data {place} is no folder: .*tiny-imagenet/train\.parquet, .*monuseg/test\.$"
        ):
            Data([str(place)])


def test_unknown_data_is_refused():
    with pytest.raises(UserError, match=r"^--data trains=x: there is no 'trains'; the tables read train-pictures, .*"):
        Data(["trains=x"])


def test_data_without_a_reference_is_refused():
    with pytest.raises(UserError, match=r"^--data episodes=: write NAME=REFERENCE"):
        Data(["episodes="])


def test_pictures_of_some_data_can_be_chosen(picture_folder, pictures):
    data = Data([f"test-pictures={picture_folder}"])
    shown = list(data.pictures("test-pictures", "[1:5:2]"))
    assert [one.tobytes() for one in shown] == [pictures[1].tobytes(), pictures[3].tobytes()]
    assert all(isinstance(one, Image.Image) for one in data.pictures("test-pictures"))


@pytest.fixture
def described(tmp_path):
    """What records say of a file of some bytes, or of a reference, as `test-pictures`."""

    def describe(content: bytes | str, name: str = "a.parquet", part: str = "") -> str:
        reference = content
        if isinstance(content, bytes):
            reference = tmp_path / name
            reference.parent.mkdir(parents=True, exist_ok=True)
            reference.write_bytes(content)
        return Data([f"test-pictures={reference}"]).described("test-pictures", part)

    return describe


def test_the_same_file_has_the_same_mark_wherever_it_lies_and_another_of_its_size_has_another(described):
    content = bytes(range(256)) * 1024
    assert re.fullmatch(r"test-pictures-[0-9a-f]{10}", described(content))
    assert described(content) == described(content, "elsewhere/b.parquet")
    for place in (0, len(content) - 1):  # at either end
        other = bytearray(content)
        other[place] ^= 1
        assert described(bytes(other)) != described(content)
    assert described(content + b"!") != described(content)


def test_a_part_of_a_file_is_another_reference_and_a_budgets_part_stands_behind_the_mark(described, tmp_path):
    whole = described(b"pictures")
    parts = [described(f"{tmp_path / 'a.parquet'}{part}") for part in ("[:4]", "[::2]")]
    assert len({whole, *parts}) == 3
    assert described(b"pictures", part="[::8]") == f"{whole}[::8]"
    assert described(b"pictures", "b.parquet") == whole


def test_a_folder_is_marked_by_names_and_sizes_of_all_files_in_it(tmp_path, described):
    def folder(place: str, **contents: str) -> str:
        for name, content in contents.items():
            (tmp_path / place / "inner").mkdir(parents=True, exist_ok=True)
            (tmp_path / place / "inner" / name).write_text(content)
        return described(str(tmp_path / place))

    first = folder("first", a="one", b="two")
    assert folder("deep/second", a="one", b="two") == first
    assert (
        len({first, folder("third", a="one"), folder("fourth", a="one", c="two"), folder("fifth", a="one", b="2")}) == 4
    )


def test_a_hub_id_is_marked_by_its_name(described):
    marks = [described(name) for name in ("ILSVRC/imagenet-1k", "ILSVRC/imagenet-1k[:9]", "other/imagenet-1k")]
    assert len(set(marks)) == 3 and marks[0] == described("ILSVRC/imagenet-1k")


def test_data_that_was_not_given_is_described_by_its_name_alone():
    assert Data().described("test-pictures", "[::8]") == "test-pictures[::8]"


def test_a_file_is_looked_at_once_a_run(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"pictures")
    data = Data([f"test-pictures={tmp_path / 'a.parquet'}"])
    before = data.described("test-pictures")
    (tmp_path / "a.parquet").unlink()
    assert data.described("test-pictures") == before


def test_models_are_read_by_name():
    assert parse_models(["llm=meta-llama/Llama-2-7b-hf", "vqgan=/a=b"]) == {
        "llm": "meta-llama/Llama-2-7b-hf",
        "vqgan": "/a=b",
    }
    assert parse_models([]) == {}


@pytest.mark.parametrize("text", ["llm", "llm=", "=folder", "="])
def test_models_of_another_form_are_refused(text):
    with pytest.raises(UserError, match=rf"^--models {text}: write NAME=REFERENCE, such as llm=meta-llama/"):
        parse_models([text])
