"""Measuring on Pascal-5i: a made-up Pascal VOC whose copied answers can be worked out by hand, and the command."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visual_sentence.data.pascal5i import PascalFold
from visual_sentence.errors import UserError
from visual_sentence.sentence_completion import Question, SentenceCompleter
from visual_sentence.sentence_completion.pascal5i import Overlaps, evaluate_pascal5i, mean_over_folds
from visual_sentence_cli import main
from visual_sentence_cli.evaluate_pascal5i import table

from ..data.voc_tree import mask, write_list, write_voc

SIDE = 111  # of visual_prompting's answers, so that nothing is stretched
VOID = 255
MASKS = {  # two pictures of a class: each is asked behind the other
    "a": ((1, 0, 0, 50, SIDE), (VOID, 50, 0, 60, SIDE)),
    "b": ((1, 0, 0, 100, SIDE),),
    "c": ((2, 0, 0, SIDE, 10),),
    "d": ((2, 0, 5, SIDE, 25), (7, 0, 30, SIDE, 40)),
}
# Of the other's mask as the answer: shares of rows or columns in both and in either; the void of a counts as background
# in the first, nowhere in the second.
SMALL = {"a": 50 / 100, "b": 50 / 100, "c": 5 / 25, "d": 5 / 25}
UNIONS = {"a": 90, "b": 100, "c": 25, "d": 25}
COMMON = {"a": 50, "b": 50, "c": 5, "d": 5}


@pytest.fixture
def root(tmp_path) -> Path:
    write_voc(tmp_path / "voc", {name: mask((SIDE, SIDE), *parts) for name, parts in MASKS.items()})
    return tmp_path / "voc"


@pytest.fixture
def completer(make_simlvm, make_simlvm_processor) -> SentenceCompleter:
    return SentenceCompleter(make_simlvm(), make_simlvm_processor())


def overlap_by_hand(answer: Image.Image, truth: np.ndarray) -> float:
    """IoU of a picture, stretched and cut at half grey, with [H, W] bool."""
    grey = np.asarray(answer.resize(truth.shape[::-1], Image.Resampling.BICUBIC), float).mean(2)
    given = grey > 127.5
    return (given & truth).sum() / (given | truth).sum()


def test_copied_answers_by_hand(root, completer):
    found = evaluate_pascal5i(completer, root, 0, queries=12, batch_size=6)
    asked = [episode.query.name for episode in PascalFold(root, 0).episodes(12)]
    counts = Counter(asked)
    assert set(counts) == set("abcd") and found["n"] == 12 and found["sources"] == 4
    first = sum(counts[name] * COMMON[name] for name in "ab") / sum(counts[name] * UNIONS[name] for name in "ab")
    for name in ("copy_last_target", "nearest_target"):
        copied = found["references"][name]
        assert copied["iou"] == pytest.approx(np.mean([SMALL[name] for name in asked]))
        assert copied["class_iou"] == pytest.approx({"aeroplane": first, "bicycle": 0.2})
        assert copied["miou"] == pytest.approx((first + 0.2) / 2)
        for measure, (low, high) in copied["ci95"].items():
            assert low <= copied[measure] <= high and 0.2 <= low < high <= 50 / 90
    setting = found["setting"]
    assert setting["classes"][:2] == ["aeroplane", "bicycle"] and setting["masks"] == "SegmentationClass"
    assert setting["entries"] == 4 and setting["pairs"] == 1 and setting["list"].endswith("val.txt")


def test_answers_are_the_models(root, completer):
    found = evaluate_pascal5i(completer, root, 0, queries=3, seed=5, batch_size=2)
    fold, expected = PascalFold(root, 0), []
    for episode in fold.episodes(3, seed=5):
        pictures = []
        for name in (*episode.supports, episode.query.name):
            example = fold.example(name, episode.query.class_index)
            white = (example.label_map == episode.query.class_index).astype(np.uint8) * 255
            pictures.append((example.image, Image.fromarray(white).convert("RGB")))
        (answer,) = completer.complete([Question(pictures[:1], pictures[1][0])])
        levels = answer.pixel_values.add(1).mul(127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        expected.append(overlap_by_hand(Image.fromarray(levels), np.asarray(pictures[1][1])[..., 0] > 0))
    assert found["iou"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert 0 < found["references"]["tokenizer"]["iou"] < 1


def test_an_interval_of_two_pictures():
    # drawn with replacement, both are the one or the other in a quarter of all draws each
    overlaps = Overlaps()
    overlaps.small, overlaps.common, overlaps.union = [0.5, 0.25], [50, 50], [90, 100]
    found = overlaps.summary([1, 1], ["a", "b"], seed=0)
    assert found["iou"] == 0.375 and found["ci95"]["iou"] == [0.25, 0.5]
    assert found["miou"] == pytest.approx(100 / 190) and found["ci95"]["miou"] == pytest.approx([0.5, 50 / 90])
    overlaps.small, overlaps.common, overlaps.union = [1.0], [0], [0]
    alone = overlaps.summary([1], ["a"], seed=0)
    assert alone["miou"] == 1 and alone["ci95"] == {"iou": None, "miou": None}  # empty against empty


def test_means_over_folds():
    folds = [{"iou": 0.25, "miou": 0.5}, {"iou": 0.5, "miou": 0.75}]
    assert mean_over_folds(folds) == {"iou": 0.375, "miou": 0.625, "folds": folds}


def test_what_a_model_cannot_read(root, make_simlvm, make_simlvm_processor):
    completer = SentenceCompleter(make_simlvm(), make_simlvm_processor("crop"))
    with pytest.raises(UserError, match="sees the middle square of a picture only"):
        evaluate_pascal5i(completer, root, 0, queries=2)
    found = evaluate_pascal5i(completer, root, 0, queries=2, size=32)
    assert found["setting"]["size"] == 32 and found["n"] == 2
    with pytest.raises(UserError, match="3 pairs fit before a query of this model, you asked for 4"):
        evaluate_pascal5i(completer, root, 0, pairs=4, size=32)


@pytest.fixture
def run(simlvm_folder, root, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Runs the command with the tiny model: status, standard output, standard error."""
    # in a process of its own the command sets this before the library reads it
    monkeypatch.setattr("transformers.utils.logging._tqdm_active", False)

    def call(*arguments: object) -> tuple[int, str, str]:
        words = ("evaluate", "pascal-5i", "--model", simlvm_folder, "--data", root, "--queries", 4, "--device", "cpu")
        monkeypatch.setattr("sys.argv", ["visual-sentence", *map(str, (*words, *arguments))])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main()
        return exit_info.value.code or 0, *capsys.readouterr()

    return call


def test_the_command(run, root, tmp_path, simlvm_folder):
    splits = write_list(tmp_path / "splits", 0, "a__01", "b__01")
    status, out, err = run("--fold", 0, "--splits", splits, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["model"] == str(simlvm_folder) and [row["fold"] for row in found["folds"]] == [0]
    (row,) = found["folds"]
    assert row["n"] == 4 and list(row["class_iou"]) == ["aeroplane"] and found["iou"] == row["iou"]
    assert row["references"]["copy_last_target"]["iou"] == pytest.approx(0.5)
    lines = table(found).splitlines()
    assert lines[0] == "Pascal-5i, 4 queries of each fold, pairs: 1, seed 0, masks of SegmentationClass"
    assert lines[4].startswith("| 0 | answer | ") and lines[-1].startswith("| 0 | tokenizer | ")


def test_all_folds(run, tmp_path):
    classes = {f"{letter}{index}": ((index, 0, 0, 9, 9),) for index in (1, 6, 11, 16) for letter in "pq"}
    write_voc(tmp_path / "four", {name: mask((20, 15), *parts) for name, parts in classes.items()})
    status, out, err = run("--data", tmp_path / "four", "--queries", 1)
    assert status == 0, err
    rows = [line.split(" | ")[0] for line in out.splitlines()[4:]]
    assert rows == [f"| {fold}" for fold in range(4) for _ in range(5)] + ["| mean"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fold", 1), "has 1 different pictures of class 7 (car), so 0 pairs fit"),
        (("--fold", 0, "--pairs", 2), "so 1 pairs fit before a query of another one, not 2"),
        (("--fold", 4), "Invalid value for '--fold'"),
        (("--fold", 0, "--splits", "nothing"), "nothing has no val/fold0.txt"),
        (("--data", "nothing"), "nothing has no VOCdevkit/VOC2012/JPEGImages"),
    ],
)
def test_mistakes_are_one_line(run, arguments, message):
    status, out, err = run(*arguments)
    assert status == 2 and out == "" and err.count("\n") == 1, err
    assert message in err, err
