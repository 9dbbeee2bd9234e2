"""How much is spent, and where models and data come from: every mistake told in one line."""

from dataclasses import fields

import pytest
from PIL import Image

from visual_sentence import UserError
from visual_sentence.image_io import split_slice
from visual_sentence.reproduction.budgets import BUDGETS, DATA, Data, Sizes, find_budget, parse_models
from visual_sentence.reproduction.workspace import NotRunnableError

# Of these a smaller one is more work; the slices choose rows of sets that are at least so long.
EVERY_SO_MANY, SLICES = "candidates", {"train_slice": 100_000, "test_slice": 10_000, "road_slice": 367}


@pytest.fixture
def root(tmp_path):
    """A folder that holds all of `DATA` but the episodes."""
    for name, (place, _) in DATA.items():
        if name != "episodes":
            (tmp_path / "root" / place).mkdir(parents=True)
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
    assert data["pascal"] == str(root / "VOCdevkit" / "VOC2012")


def test_data_that_is_named_goes_before_the_folder(root):
    data = Data([str(root), "road-train=elsewhere.parquet?a=b"])
    assert data["road-train"] == "elsewhere.parquet?a=b"
    assert data["road-test"] == str(root / "camvid" / "test.parquet")


@pytest.mark.parametrize("name", DATA)
def test_data_that_was_not_given_says_what_to_give(name):
    with pytest.raises(NotRunnableError) as missing:
        Data()[name]
    place, what = DATA[name]
    assert str(missing.value) == f"needs {what}: {place} in the folder of --data, or --data {name}=REFERENCE"


def test_data_that_the_folder_lacks_says_what_to_give(root):
    with pytest.raises(NotRunnableError, match=r"few-shot/episodes-dev\.parquet .* --data episodes=REFERENCE"):
        Data([str(root)])["episodes"]


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(
            UserError, match=rf"^--data {place} is no folder: .*tiny-imagenet/train\.parquet, .*2012\.$"
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
