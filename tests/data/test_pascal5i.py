"""Pascal-5i: folds, lists and draws, on a made-up Pascal VOC of a few tiny pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visual_sentence.data.pascal5i import CLASS_NAMES, Entry, PascalFold
from visual_sentence.errors import UserError

from .voc_tree import mask, write_list, write_voc

SIZE = (12, 8)
# Names with the classes that are in them, each a column of its own.
PICTURES = {
    "2007_000032": (1, 15),
    "2007_000033": (1, 5),
    "2007_000061": (5,),
    "2008_000001": (5, 20),
    "2008_000002": (1,),
    "2008_000003": (1, 16),
    "2009_000001": (5, 1),
    "2009_000002": (16, 20),
}


@pytest.fixture
def root(tmp_path) -> Path:
    masks = {
        name: mask(SIZE, *((index, 1, 2 * at, 7, 2 * at + 2) for at, index in enumerate(classes)), (255, 0, 10, 8, 12))
        for name, classes in PICTURES.items()
    }
    write_voc(tmp_path / "voc", masks)
    return tmp_path / "voc"


def test_folds_and_their_classes(root):
    names = [PascalFold(root, fold).class_names for fold in (0, 2, 3)]
    assert names[0] == ["aeroplane", "bicycle", "bird", "boat", "bottle"]
    assert names[1] == ["diningtable", "dog", "horse", "motorbike", "person"]
    assert names[2][0] == "pottedplant" and names[2][-1] == CLASS_NAMES[-1] == "tvmonitor"
    # each of the fold's classes that is in a picture is asked for, in the order of VOC's list
    assert PascalFold(root, 0).entries == tuple(
        Entry(name, index) for name, classes in PICTURES.items() for index in sorted(classes) if index <= 5
    )
    assert [entry.name for entry in PascalFold(root, 3).entries if entry.class_index == 16] == [
        "2008_000003",
        "2009_000002",
    ]
    assert PascalFold(root, 2).entries == (Entry("2007_000032", 15),)
    with pytest.raises(UserError, match="names no picture of classes 6 to 10, those of fold 1"):
        PascalFold(root, 1)


def test_lists_and_where_things_lie(root, tmp_path):
    splits = write_list(tmp_path / "splits", 0, "2007_000033__01", "2008_000001__05", "2007_000033__05")
    expected = (Entry("2007_000033", 1), Entry("2008_000001", 5), Entry("2007_000033", 5))
    for folder in (root, root / "VOCdevkit", root / "VOCdevkit" / "VOC2012"):
        fold = PascalFold(folder, 0, splits)
        assert fold.entries == expected and fold.annotations == "SegmentationClass"
        assert fold.list_name == str(splits / "val" / "fold0.txt")
    write_list(tmp_path / "all" / "pascal", 0, "2007_000033__01")
    assert PascalFold(root, 0, tmp_path / "all").entries == expected[:1]


def test_masks_are_indices_and_void_stays(root):
    example = PascalFold(root, 0).example("2007_000033", 5)
    expected = mask(SIZE, (1, 1, 0, 7, 2), (5, 1, 2, 7, 4), (255, 0, 10, 8, 12))
    assert np.array_equal(example.label_map, expected) and example.image.size == SIZE
    # SBD's masks, greyscale, come first where they are there
    write_voc(root, {"2007_000033": np.where(expected == 255, 0, expected)}, "SegmentationClassAug", palette=False)
    fold = PascalFold(root, 0)
    assert fold.annotations == "SegmentationClassAug" and len(fold.entries) == 2
    assert set(np.unique(fold.example("2007_000033", 5).label_map)) == {0, 1, 5}


@pytest.mark.parametrize("seed", [0, 7])
def test_the_first_pairs_are_those_of_the_published_code(root, seed):
    fold = PascalFold(root, 0)
    names = {
        index: [entry.name for entry in fold.entries if entry.class_index == index] for index in fold.class_indices
    }
    np.random.seed(seed)
    for number, episode in enumerate(fold.episodes(seed=seed)):
        query = fold.entries[number % len(fold.entries)]
        while True:
            support = np.random.choice(names[query.class_index], 1, replace=False)[0]
            if support != query.name:
                break
        assert episode.query == query and episode.supports == (support,)
    assert number == 999


def test_draws_of_a_seed(root):
    fold = PascalFold(root, 0)
    episodes = fold.episodes(pairs=2, seed=0)[:4]
    assert [(episode.query.name, episode.query.class_index, *episode.supports) for episode in episodes] == [
        ("2007_000032", 1, "2008_000002", "2009_000001"),
        ("2007_000033", 1, "2007_000032", "2008_000003"),
        ("2007_000033", 5, "2009_000001", "2008_000001"),
        ("2007_000061", 5, "2007_000033", "2009_000001"),
    ]


def test_more_pairs_and_fewer_queries_are_of_the_same_draws(root):
    fold = PascalFold(root, 0)
    one, three = fold.episodes(seed=3), fold.episodes(pairs=3, seed=3)
    two = fold.episodes(pairs=2, seed=3)
    for first, second, third in zip(one, two, three, strict=True):
        assert first.query == second.query == third.query
        assert first.supports == second.supports[:1] and second.supports == third.supports[:2]
        assert len({third.query.name, *third.supports}) == 4
        for name in third.supports:
            assert Entry(name, third.query.class_index) in fold.entries
    assert fold.episodes(1200, seed=3)[:1000] == one
    few, more = fold.episodes(20, seed=3), fold.episodes(40, seed=3)
    places = iter(one)
    assert len(few) == 20 and all(episode in places for episode in more)  # in the order of the thousand
    remaining = list(more)
    for episode in few:
        remaining.remove(episode)
    assert few != one[:20] and fold.episodes(20, seed=4) != few


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"pairs": 4},
            r"has 4 different pictures of class 5 \(bottle\), so 3 pairs fit before a query of another one, not 4",
        ),
        ({"pairs": 0}, "pairs is a number of at least 1, found 0"),
        ({"queries": 0}, "queries is a number of at least 1, found 0"),
        ({"seed": -1}, "The seed is -1"),
    ],
)
def test_draws_that_cannot_be(root, arguments, message):
    with pytest.raises(UserError, match=message):
        PascalFold(root, 0).episodes(**arguments)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["2007_000033"], r"'2007_000033' is no line such as 2007_000033__01"),
        (["2007_000033__01"] * 2, "has 1 different pictures of class 1"),
        (["2007_000032__15"], "is of class 15, but fold 0 asks for 1 to 5: give the val list of this fold"),
        ([""], "names no picture of classes 1 to 5"),
    ],
)
def test_lists_that_are_none(root, tmp_path, lines, message):
    with pytest.raises(UserError, match=message):
        PascalFold(root, 0, write_list(tmp_path / "splits", 0, *lines)).episodes()


def test_what_is_missing_or_damaged_is_one_line(root, tmp_path):
    voc = root / "VOCdevkit" / "VOC2012"
    splits = write_list(tmp_path / "splits", 0, "2007_000033__01", "2008_000002__05", "2007_000099__01")

    def refused(message: str, fold: int = 0, lists: Path | None = splits, read: tuple[str, int] | None = None) -> None:
        with pytest.raises(UserError, match=message) as error:
            found = PascalFold(root, fold, lists)
            if read:
                found.example(*read)
        assert "\n" not in str(error.value)

    refused("no fold 4", 4)
    refused(r"has no val/fold1.txt, so it is open which pictures", 1)
    refused("2007_000099.jpg: there is no such file", read=("2007_000099", 1))
    refused(r"has no pixel of class 5 \(bottle\), but .*fold0.txt says so", read=("2008_000002", 5))
    Image.new("P", (5, 5), 1).save(voc / "SegmentationClass" / "2008_000002.png")
    refused("12 x 8 pixels, its label map 5 x 5", read=("2008_000002", 1))
    Image.new("RGB", SIZE).save(voc / "SegmentationClass" / "2008_000002.png")
    refused("picture of mode RGB, not of class indices", read=("2008_000002", 1))
    (voc / "SegmentationClass" / "2008_000002.png").write_bytes(b"\x89PNG")
    refused("is damaged or cut off", lists=None)
    (voc / "SegmentationClass" / "2008_000002.png").unlink()
    refused("there is no such file, the mask of a picture that is listed", read=("2008_000002", 1))
    (voc / "JPEGImages" / "2007_000033.jpg").write_bytes(b"\xff\xd8\xff")
    refused("is damaged or cut off|is not a picture", read=("2007_000033", 1))
    (voc / "ImageSets" / "Segmentation" / "val.txt").unlink()
    refused("cannot be read as a list of pictures", lists=None)
    (voc / "SegmentationClass").rename(voc / "masks")
    refused("has no SegmentationClassAug or SegmentationClass")
    (voc / "JPEGImages").rename(voc / "pictures")
    refused("so there are no pictures: give the folder that Pascal VOC 2012")
