"""Every kind of picture, file, folder and data set: each works or is refused in one line that says what to do."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from visual_sentence import UserError, image_io
from visual_sentence.image_io import (
    check_images,
    image_column,
    list_class_folders,
    list_pictures,
    load_table,
    open_image,
    open_image_source,
)


def same(first: Image.Image, second: Image.Image) -> bool:
    return first.size == second.size and np.array_equal(np.asarray(first), np.asarray(second))


def one_line(error: pytest.ExceptionInfo, *parts: str) -> None:
    """The message is one line and says all `parts`."""
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def test_good_pictures_become_rgb(good_files):
    for name, path in good_files.items():
        image = open_image(path)
        assert image.mode == "RGB", name
        assert image.size == ((1, 1) if name == "one-pixel" else (30, 20)), name


def test_what_good_pictures_show(good_files):
    assert open_image(good_files["sixteen-bit"]).getpixel((0, 0)) == (128, 128, 128)
    assert open_image(good_files["see-through"]).getpixel((0, 0)) == (255, 255, 255)
    red, green, blue = open_image(good_files["animated"]).getpixel((5, 5))
    assert red > 200 and green < 60 and blue < 60  # the first frame is red, the second blue


def test_bad_files_are_named_with_a_remedy(bad_files):
    for name, (path, found, remedy) in bad_files.items():
        with pytest.raises(UserError) as error:
            open_image(path)
        one_line(error, str(path), found, remedy)
        assert str(error.value).count(str(path)) == 1, name


def test_a_huge_header_is_refused_before_memory_is_taken(bad_files):
    tracemalloc.start()
    with pytest.raises(UserError, match=r"beyond [\d,]+ pixels.*scale it down"):
        open_image(bad_files["huge"][0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000  # 40,000 x 40,000 pixels would be 1.6 GB and more


def test_large_but_possible_pictures_are_read_without_a_warning(tmp_path, recwarn, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    Image.new("L", (30, 20)).save(tmp_path / "large.png")
    assert open_image(tmp_path / "large.png").size == (30, 20)
    assert not recwarn.list


def test_check_images_names_the_first_bad_one_and_the_way_out(good_files, bad_files):
    paths = [good_files["plain"], bad_files["text"][0], bad_files["missing"][0]]
    with pytest.raises(UserError) as error:
        check_images(paths)
    one_line(error, str(bad_files["text"][0]), "nothing was done", "--skip-bad", "3")
    with pytest.raises(UserError) as error:
        check_images([bad_files["text"][0]])
    assert "--skip-bad" not in str(error.value)  # of no use for a single picture
    with pytest.raises(UserError) as error:
        check_images(paths, skip_bad=None)  # of no use where all pictures are needed
    one_line(error, str(bad_files["text"][0]), "nothing was done")
    assert "--skip-bad" not in str(error.value)


def test_check_images_skips_on_demand(good_files, bad_files):
    good = list(good_files.values())
    bad = [path for path, _, _ in bad_files.values()]
    checked = check_images([*good[:2], *bad, *good[2:]], skip_bad=True)
    assert checked.paths == good
    assert len(checked.problems) == len(bad)
    assert all(str(path) in problem for path, problem in zip(bad, checked.problems, strict=True))


def test_check_images_needs_one_good_picture(bad_files):
    with pytest.raises(UserError) as error:
        check_images([path for path, _, _ in bad_files.values()], skip_bad=True)
    one_line(error, f"None of the {len(bad_files)} files")


def test_list_pictures_in_order_of_name(tmp_path):
    for name in ("b.png", "a.JPG", "c.webp", "notes.txt", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.JPG", "b.png", "c.webp"]


def test_folders_without_pictures_are_named(tmp_path):
    with pytest.raises(UserError) as error:
        list_pictures(tmp_path)
    one_line(error, str(tmp_path), "holds no pictures", "put some in")
    with pytest.raises(UserError) as error:
        list_pictures(tmp_path / "nowhere")
    one_line(error, "nowhere", "no such folder", "check the path")


def test_class_folders(class_folders):
    found = list_class_folders(class_folders)
    assert {name: [path.name for path in paths] for name, paths in found.items()} == {
        "french bulldog": ["0.png", "1.png"],
        "goldfish": ["0.png"],  # one picture is enough
    }


def test_class_folders_that_are_not_there_are_named(tmp_path, class_folders):
    with pytest.raises(UserError) as error:
        list_class_folders(tmp_path / "nowhere")
    one_line(error, "nowhere", "one folder per class")
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "a.png").touch()
    with pytest.raises(UserError) as error:
        list_class_folders(flat)
    one_line(error, str(flat), "has no class folders", "folder named after the class")
    (class_folders / "empty_class").mkdir()
    with pytest.raises(UserError) as error:
        list_class_folders(class_folders)
    one_line(error, "empty_class", "holds no pictures")


@pytest.fixture
def table(pictures) -> Dataset:
    """Five pictures with their places, one of them named twice over by another column."""
    features = Features({"place": Value("int64"), "image": ImageFeature(), "other": ImageFeature()})
    blank = Image.new("RGB", (3, 3))
    return Dataset.from_dict({"place": list(range(5)), "image": pictures, "other": [blank] * 5}, features=features)


def test_source_from_a_folder_of_folders(pictures, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for index, picture in enumerate(pictures):
        picture.save(tmp_path / ("deep/er" if index % 2 else "deep") / f"{index}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    source = open_image_source(str(tmp_path))
    assert (source.count, source.name) == (5, tmp_path.name)
    expected = [pictures[index] for index in (0, 2, 4, 1, 3)]  # in order of path
    assert all(map(same, source, expected))
    assert all(map(same, source, expected))  # a second pass begins anew
    assert open_image_source(f"{tmp_path}[1:3]").count == 2


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("[1:3]", [1, 2]),
        ("[:2]", [0, 1]),
        ("[3:]", [3, 4]),
        ("[::2]", [0, 2, 4]),
        ("[1:5:3]", [1, 4]),
    ],
)
def test_source_from_parquet_and_saved_tables_with_slices(places, expected, table, pictures, tmp_path):
    table.to_parquet(tmp_path / "pictures.parquet")
    table.save_to_disk(tmp_path / "saved")
    for name in ("pictures.parquet", "saved"):
        source = open_image_source(f"{tmp_path / name}{places}")
        assert source.count == len(expected)
        assert source.name.startswith(name)
        assert all(map(same, source, [pictures[index] for index in expected]))


def test_source_from_several_parquet_files_and_a_split(table, pictures, tmp_path):
    table.select(range(3)).to_parquet(tmp_path / "part-0.parquet")
    table.select(range(3, 5)).to_parquet(tmp_path / "part-1.parquet")
    assert all(map(same, open_image_source(str(tmp_path / "part-*.parquet")), pictures))
    DatasetDict({"train": table, "test": table.select([4])}).save_to_disk(tmp_path / "splits")
    source = open_image_source(str(tmp_path / "splits"), split="test")
    assert source.count == 1 and same(next(iter(source)), pictures[4])


def test_source_from_another_column_and_one_after_the_other(table, pictures, tmp_path):
    table.to_parquet(tmp_path / "t.parquet")
    reference = str(tmp_path / "t.parquet")
    assert {image.size for image in open_image_source(reference, column="other")} == {(3, 3)}
    both = open_image_source(f"{reference}[:1]") + open_image_source(f"{reference}[4:]")
    assert both.count == 2 and both.name.count("t.parquet[") == 2
    assert all(map(same, both, [pictures[0], pictures[4]]))


def test_streamed_tables_take_slices_but_no_steps(table):
    stream = table.to_iterable_dataset()
    assert [row["place"] for row in image_io.take_rows(stream, slice(1, 3, None), "a/b")] == [1, 2]
    assert [row["place"] for row in image_io.take_rows(stream, slice(3, None, None), "a/b")] == [3, 4]
    with pytest.raises(UserError, match=r"a/b is streamed.*leave the step out"):
        image_io.take_rows(stream, slice(0, None, 2), "a/b")


def test_first_column_of_pictures(table):
    assert image_column(table, "t") == "image"
    with pytest.raises(UserError, match=r"t has no column of pictures \(its columns: place\): name one"):
        image_column(table.select_columns(["place"]), "t")


def test_sources_that_cannot_be_opened_are_named(table, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no table")
    (tmp_path / "broken.parquet").write_text("no table")
    table.select_columns(["place"]).to_parquet(tmp_path / "numbers.parquet")
    table.to_parquet(tmp_path / "table.parquet")
    DatasetDict({"train": table}).save_to_disk(tmp_path / "splits")
    for reference, arguments, *parts in [
        (tmp_path / "empty", {}, "holds no pictures", "check the path"),
        (tmp_path / "missing.parquet", {}, "no such file", "check the path"),
        (tmp_path / "*-missing.parquet", {}, "cannot be loaded as a data set", ".parquet files"),
        (tmp_path / "notes.txt", {}, "is not a Parquet file", "give .parquet files"),
        (tmp_path / "broken.parquet", {}, "cannot be loaded as a data set", ".parquet files"),
        (tmp_path / "numbers.parquet", {}, "no column of pictures", "place"),
        (tmp_path / "table.parquet", {"column": "photo"}, "photo", "place, image, other"),
        (tmp_path / "table.parquet", {"column": "place"}, "place", "image, other"),
        (f"{tmp_path / 'table.parquet'}[5:]", {}, "no picture"),
        (f"{tmp_path / 'table.parquet'}[::0]", {}, "step"),
        (tmp_path / "splits", {"split": "dev"}, "dev", "train"),
        ("no-such-owner/no-such-data", {}, "cannot be loaded as a data set", "Hub id"),
    ]:
        with pytest.raises(UserError) as error:
            open_image_source(str(reference), **arguments)
        one_line(error, str(reference).partition("[")[0], *parts)


def test_a_damaged_picture_in_a_table_is_named(tmp_path):
    features = Features({"image": ImageFeature()})
    rows = [{"bytes": b"no picture", "path": None}]
    Dataset.from_dict({"image": rows}, features=features).to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(UserError) as error:
        list(open_image_source(str(tmp_path / "bad.parquet")))
    one_line(error, "bad.parquet", "row 0")


def test_load_table_keeps_all_columns(table, tmp_path):
    table.to_parquet(tmp_path / "t.parquet")
    assert load_table(str(tmp_path / "t.parquet")).column_names == ["place", "image", "other"]
    assert Path(tmp_path / "t.parquet").exists()
