"""Tables and folders as sources of examples; every bad row named."""

import numpy as np
import pytest
from PIL import Image

from visual_sentence import UserError
from visual_sentence.data import open_examples, parse_task_data


def picture(number: int, size=(6, 4)) -> Image.Image:
    return Image.new("RGB", size, (number, 0, 255 - number))


@pytest.fixture
def rows(cell):
    labels = np.array([[0, 1, 2, 255, 1, 1]] * 4, np.uint8)
    return [
        {
            "image": cell(picture(number)),
            "mask": cell(np.where(labels == number % 3, 255, 0).astype(np.uint8)),
            "label_map": cell(labels),
            "source_group": f"g{number // 2}",
            "image_id": number,
        }
        for number in range(6)
    ]


@pytest.fixture
def folder(tmp_path):
    def build(**files) -> str:
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            content.save(path)
        return str(tmp_path)

    return build


def test_a_table_fills_all_fields(rows, write_table):
    source = open_examples(write_table(rows))
    assert len(source) == 6
    example = source[4]
    assert example.image.tobytes() == picture(4).tobytes() and example.source == "g2" == source.source_of(4)
    assert example.mask[0].tolist() == [False, True, False, False, True, True]
    assert example.label_map[0].tolist() == [0, 1, 2, 0, 1, 1]  # 255 is nobody's class
    assert example.target is None and source[-1].source == "g2"
    with pytest.raises(IndexError):
        source[6]


def test_rows_can_be_chosen_and_named_by_their_number(rows, write_table, cell):
    path = write_table([{"image": row["image"]} for row in rows])
    source = open_examples(f"{path}[1:6:2]")
    assert [example.image.getpixel((0, 0))[0] for example in source] == [1, 3, 5]
    assert source.source_of(1).endswith("rows, row 3")
    with pytest.raises(UserError, match="no example"):
        open_examples(f"{path}[6:]")


def test_sources_are_found_in_order_of_trust(rows, write_table):
    without = [{key: value for key, value in row.items() if key != "source_group"} for row in rows]
    assert open_examples(write_table(without, "a.parquet")).source_of(3) == "3"  # image_id
    named = open_examples(write_table(rows, "b.parquet"), source_column="image_id")
    assert named.source_of(3) == "3"


def test_columns_can_be_named(rows, write_table, cell):
    path = write_table([{**row, "foreground": cell(np.full((4, 6), 255, np.uint8))} for row in rows])
    assert open_examples(path, mask_column="foreground")[0].mask.all()
    assert open_examples(path, ignore="none")[0].label_map[0, 3] == 255
    assert open_examples(path, ignore="1")[0].label_map[0].tolist() == [0, 0, 2, 255, 0, 0]
    with pytest.raises(UserError, match="no column 'sky'"):
        open_examples(path, mask_column="sky")
    with pytest.raises(UserError, match="'image_id' holds no pictures"):
        open_examples(path, label_column="image_id")


def test_numbers_of_regions_run_through_255(write_table, cell):
    labels = cell(np.array([[254, 255]], np.uint8))
    source = open_examples(write_table([{"image": cell(picture(1, (2, 1))), "segments": labels}]))
    assert source[0].label_map.tolist() == [[254, 255]]


def test_label_maps_of_16_bits_and_palettes(write_table, cell):
    wide = Image.fromarray(np.array([[0, 300]], np.uint16))
    palette = Image.fromarray(np.array([[0, 7]], np.uint8)).convert("P")
    palette.putpalette([9, 9, 9] * 256)
    images = [{"image": cell(picture(1, (2, 1))), "label_map": cell(labels)} for labels in (wide, palette)]
    assert [example.label_map.tolist() for example in open_examples(write_table(images))] == [[[0, 300]], [[0, 7]]]


def test_several_parquet_files_in_a_folder(rows, write_table, tmp_path):
    write_table(rows[:2], "parts/a.parquet")
    write_table(rows[2:], "parts/b.parquet")
    source = open_examples(str(tmp_path / "parts"))
    assert len(source) == 6 and source[2].image.tobytes() == picture(2).tobytes()


@pytest.mark.parametrize(
    ("column", "content", "says"),
    [
        ("image", {"bytes": b"no picture", "path": None}, "row 1, column 'image': .*not a picture"),
        ("image", {"bytes": None, "path": None}, "row 1, column 'image': there is no picture"),
        ("mask", np.ones((4, 6), np.uint8), "row 1, column 'mask': the mask's highest value is 1"),
        ("mask", np.full((4, 5), 255, np.uint8), "6 x 4 pixels, its mask 5 x 4"),
        ("label_map", picture(3), "row 1, column 'label_map': .*mode RGB"),
    ],
)
def test_bad_cells_are_named_in_one_line(rows, write_table, cell, column, content, says):
    rows[1][column] = content if isinstance(content, dict) else cell(content)
    source = open_examples(write_table(rows))
    assert source[0].mask.any()
    with pytest.raises(UserError, match=says) as caught:
        source[1]
    assert "\n" not in str(caught.value)


def test_a_plain_folder(folder):
    path = folder(b_dot_png=picture(2), a_dot_png=picture(1), deep__c_dot_jpg=picture(3))
    source = open_examples(path)
    assert len(source) == 3 and source[0].image.tobytes() == picture(1).tobytes()
    assert [source.source_of(index).split("/", 1)[1] for index in range(3)] == ["a.png", "b.png", "deep/c.jpg"]
    assert source[0].mask is None and len(open_examples(f"{path}[1:]")) == 2
    with pytest.raises(UserError, match="a folder of pictures takes none"):
        open_examples(path, mask_column="mask")


def test_folders_of_pictures_and_labels(folder):
    labels = Image.fromarray(np.full((4, 6), 255, np.uint8))
    labels.putpixel((0, 0), 3)
    path = folder(images__x_dot_jpg=picture(1), labels__x_dot_png=labels)
    (example,) = open_examples(path)
    assert example.label_map[0, :2].tolist() == [3, 0] and example.source.endswith("/x")
    data = parse_task_data(f"segmentation:{path}?foreground=3")
    assert data.task.fits(data.source[0], "")


def test_folders_of_masks_and_of_user_pairs(folder, tmp_path):
    path = folder(images__x_dot_png=picture(1), masks__x_dot_png=Image.new("L", (6, 4), 255))
    assert open_examples(path)[0].mask.all()
    (tmp_path / "masks").rename(tmp_path / "targets")
    (tmp_path / "images").rename(tmp_path / "inputs")
    example = open_examples(path)[0]
    assert example.mask is None and example.target.getpixel((0, 0)) == (255, 255, 255)


def test_files_without_partner_are_named(folder):
    path = folder(inputs__x_dot_png=picture(1), inputs__y_dot_png=picture(1), targets__x_dot_png=picture(2))
    with pytest.raises(UserError, match="'y' is in inputs but not in targets"):
        open_examples(path)


def test_partners_of_another_size_are_refused(folder):
    path = folder(inputs__x_dot_png=picture(1), targets__x_dot_png=picture(2, (3, 3)))
    with pytest.raises(UserError, match="its target 3 x 3"):
        open_examples(path)[0]


@pytest.mark.parametrize("reference", ["nowhere", "nowhere/x.parquet"])
def test_what_is_not_there(tmp_path, reference):
    with pytest.raises(UserError):
        open_examples(str(tmp_path / reference))
    with pytest.raises(UserError, match="no pictures"):
        open_examples(str(tmp_path))
