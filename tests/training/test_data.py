"""Which picture comes when, and cut how: a function of seed, epoch and picture, whoever reads it and however often."""

from itertools import islice

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from datasets import Image as ImageFeature
from PIL import Image

from visual_sentence.errors import UserError
from visual_sentence.modeling import VQGANImageProcessor
from visual_sentence.training.config import TrainingConfig
from visual_sentence.training.cropping import Cropping, random_order
from visual_sentence.training.data import PictureTable, Share
from visual_sentence.training.feeding import Feeder
from visual_sentence.training.pictures import open_pictures

SIZE = 16


def make_feeder(data, processes=1, rank=0, **settings) -> Feeder:
    data = [str(data)] if not isinstance(data, list) else data
    config = TrainingConfig(data=data, output="unused", **{"max_steps": 1, "batch_size": 4, **settings})
    source = open_pictures(config.data, config.split, config.column, config.streaming)
    return Feeder(config, source, SIZE, processes, rank)


def read(feeder: Feeder, steps: int, first: int = 0, position=None) -> list[list[dict]]:
    return list(islice(feeder.steps(first, position), steps))


def same(one: list[list[dict]], other: list[list[dict]]) -> bool:
    pairs = [pair for steps in zip(one, other, strict=True) for pair in zip(*steps, strict=True)]
    return all(torch.equal(a[name], b[name]) for a, b in pairs for name in ("pixels", "indices"))


# ------------------------------------------------------------------------------------------------------------ cropping


def test_a_view_is_a_function_of_seed_epoch_and_index():
    pixels = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
    cropping = Cropping(SIZE, seed=3)
    views = {(e, i): cropping.view(pixels, e, i).tobytes() for e in range(4) for i in range(4)}
    assert len(set(views.values())) > 12  # another view each time
    again = Cropping(SIZE, seed=3)
    for (epoch, index), view in reversed(views.items()):  # whatever was asked before
        assert again.view(pixels, epoch, index).tobytes() == view
    assert Cropping(SIZE, seed=4).view(pixels, 0, 0).tobytes() != views[0, 0]


def test_places_and_flips_are_spread_evenly():
    rows, columns = np.mgrid[0:19, 0:19]
    pixels = np.stack([rows, columns, rows], axis=-1).astype(np.uint8)
    views = [Cropping(SIZE).view(pixels, 0, index) for index in range(2000)]
    tops = np.bincount([view[0, 0, 0] for view in views], minlength=4)
    flipped = np.mean([view[0, 0, 1] > view[0, 1, 1] for view in views])
    assert len(tops) == 4 and tops.min() > 430  # 500 each, standard deviation 19
    assert abs(flipped - 0.5) < 0.05


def test_without_chance_it_is_the_image_processors_view(picture):
    expected = VQGANImageProcessor(local_size=SIZE)(picture, return_tensors="pt")["pixel_values"][0]
    plain = Cropping(SIZE).plain()
    pixels = torch.from_numpy(plain.view(plain.prepare(picture), 7, 7).copy())
    assert torch.equal(pixels.permute(2, 0, 1).float() / 127.5 - 1, expected)


def test_the_crops_side_is_a_share_of_the_shorter_side():
    picture = Image.new("RGB", (300, 200))
    assert Cropping(SIZE, crop_scale=0.5).prepare(picture).shape == (32, 48, 3)  # 16 of 32 is a half
    assert Cropping(SIZE, crop_scale=0.5, random_crop=False).prepare(picture).shape == (32, 32, 3)
    assert Cropping(SIZE).prepare(Image.new("RGB", (1, 40_000))).shape == (64, 16, 3)


# --------------------------------------------------------------------------------------------------------- the order


def test_every_epoch_is_a_permutation_of_its_own():
    orders = [random_order(50, 0, epoch).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert random_order(50, 0, 1).tolist() == orders[1]
    assert random_order(50, 1, 1).tolist() != orders[1]


def test_an_epoch_shows_every_picture_once(picture_folder):
    batches = read(make_feeder(picture_folder), 12)  # 24 pictures, 6 steps an epoch
    for epoch in (batches[:6], batches[6:]):
        assert sorted(torch.cat([batch["indices"] for (batch,) in epoch]).tolist()) == list(range(24))
    assert not same(batches[:6], batches[6:])


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_processes_see_together_what_one_sees(picture_folder, streaming, accumulation):
    common = {"streaming": streaming, "shuffle_block": 5, "gradient_accumulation": accumulation}
    whole = read(make_feeder(picture_folder, batch_size=4, **common), 5)
    shares = [read(make_feeder(picture_folder, 2, rank, batch_size=2, **common), 5) for rank in (0, 1)]
    for step, *parts in zip(whole, *shares, strict=True):
        for batch, *pieces in zip(step, *parts, strict=True):
            assert torch.equal(batch["pixels"], torch.cat([piece["pixels"] for piece in pieces]))
            assert torch.equal(batch["indices"], torch.cat([piece["indices"] for piece in pieces]))


def test_accumulated_batches_are_the_large_batch_in_parts(picture_folder):
    whole = read(make_feeder(picture_folder, batch_size=6), 4)
    parts = read(make_feeder(picture_folder, batch_size=2, gradient_accumulation=3), 4)
    for (batch,), pieces in zip(whole, parts, strict=True):
        assert torch.equal(batch["pixels"], torch.cat([piece["pixels"] for piece in pieces]))


@pytest.mark.parametrize("settings", [{}, {"gradient_accumulation": 2, "batch_size": 3}, {"batch_size": 5}])
@pytest.mark.parametrize("streaming", [False, True])
def test_reading_goes_on_at_any_step(picture_folder, settings, streaming):
    common = {"streaming": streaming, "shuffle_block": 7, **settings}
    feeder = make_feeder(picture_folder, **common)
    batches, positions = [], []
    for step in islice(feeder.steps(), 12):
        batches.append(step)
        positions.append(feeder.position)
    for first in (1, 4, 5, 9, 11):
        again = read(make_feeder(picture_folder, **common), 12 - first, first, positions[first - 1])
        assert same(again, batches[first:])


def test_a_stream_is_shuffled_in_blocks_and_otherwise_each_epoch(picture_folder):
    steps = read(make_feeder(picture_folder, streaming=True, shuffle_block=8), 12)
    order = torch.cat([batch["indices"] for (batch,) in steps]).tolist()
    blocks = [order[first : first + 8] for first in range(0, 48, 8)]
    for place, block in enumerate(blocks):
        assert sorted(block) == list(range(place % 3 * 8, place % 3 * 8 + 8))
    assert blocks[:3] != blocks[3:] and order[:24] != list(range(24))


@pytest.mark.parametrize("streaming", [False, True])
def test_processes_that_read_change_nothing(picture_table, streaming):
    common = {"streaming": streaming, "cache_in_memory": "never"}
    here = read(make_feeder(picture_table, **common), 3)
    steps = make_feeder(picture_table, num_workers=2, **common).steps()
    assert same(list(islice(steps, 3)), here)
    steps.close()


# -------------------------------------------------------------------------------------------------------- the sources


def test_memory_changes_nothing_and_is_used_by_itself_for_few_pictures(picture_folder, monkeypatch):
    kept, read_anew = (make_feeder(picture_folder, cache_in_memory=how) for how in ("always", "never"))
    assert same(read(kept, 8), read(read_anew, 8))
    assert (kept.table.is_cached, read_anew.table.is_cached) == (True, False)
    assert make_feeder(picture_folder).table.is_cached
    # 24 pictures of 19 x 16 pixels and 3 bytes
    monkeypatch.setattr("visual_sentence.training.data.CACHE_LIMIT", 24 * 19 * 16 * 3)
    assert not make_feeder(picture_folder).table.is_cached


def test_all_kinds_of_places_give_the_same_pictures(picture_folder, picture_table, tmp_path):
    saved = tmp_path / "saved"
    Dataset.from_parquet(str(picture_table)).save_to_disk(str(saved))
    expected = read(make_feeder(picture_folder), 2)
    for place in (picture_table, saved, [f"{picture_table}[:10]", f"{picture_folder}[10:]"]):
        assert same(read(make_feeder(place), 2), expected)


def test_a_webdataset(picture_folder, tmp_path):
    import tarfile

    for number in range(2):
        with tarfile.open(tmp_path / f"shard-{number}.tar", "w") as archive:
            for path in sorted(picture_folder.iterdir())[number * 12 : number * 12 + 12]:
                archive.add(path, path.name)
    pattern = tmp_path / "shard-*.tar"
    expected = read(make_feeder(picture_folder), 2)
    assert same(read(make_feeder(pattern), 2), expected)
    streamed = read(make_feeder(pattern, streaming=True, shuffle_block=12), 6)
    assert sorted(torch.cat([batch["indices"] for (batch,) in streamed]).tolist()) == list(range(24))


def test_names_counts_and_slices(picture_folder, picture_table):
    source = open_pictures([f"{picture_folder}[::5]", str(picture_table)])
    assert source.record == [
        {"name": f"{picture_folder.name}[::5]", "count": 5},
        {"name": "pictures.parquet", "count": 24},
    ]
    assert np.array_equal(np.asarray(source.picture(1)), np.asarray(source.picture(5 + 5)))
    assert open_pictures([str(picture_table)], streaming=True).record == [{"name": "pictures.parquet", "count": None}]


def test_split_and_column_of_a_saved_data_set(picture_folder, tmp_path):
    paths = [str(path) for path in sorted(picture_folder.iterdir())]
    columns = {"first": paths[:8], "second": paths[8:16]}
    table = Dataset.from_dict(columns).cast_column("first", ImageFeature()).cast_column("second", ImageFeature())
    DatasetDict({"train": table, "other": table.select([3, 1])}).save_to_disk(str(tmp_path / "saved"))
    source = open_pictures([str(tmp_path / "saved")], split="other", column="second")
    assert source.count == 2
    assert np.array_equal(np.asarray(source.picture(0)), np.asarray(Image.open(paths[8 + 3])))


# ---------------------------------------------------------------------------------------------------- damage, mistakes


@pytest.mark.parametrize("settings", [{"cache_in_memory": "always"}, {"cache_in_memory": "never"}, {"streaming": True}])
def test_a_damaged_picture_ends_the_run_by_its_name(damaged_folder, settings):
    with pytest.raises(UserError, match=r"05\.png is damaged or cut off") as caught:
        read(make_feeder(damaged_folder, **settings), 6)
    assert "\n" not in str(caught.value)


def test_a_damaged_row_is_named_from_a_process_too(picture_folder, cut_off_jpeg, tmp_path):
    rows = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(picture_folder.iterdir())]
    rows[7] = {"bytes": cut_off_jpeg, "path": "cut.jpg"}
    table = Dataset.from_dict({"image": rows}).cast_column("image", ImageFeature())
    table.to_parquet(str(tmp_path / "cut.parquet"))
    feeder = make_feeder([str(picture_folder), str(tmp_path / "cut.parquet")], cache_in_memory="never", num_workers=1)
    with pytest.raises(UserError, match=r"^cut\.parquet, row 7 \(cut\.jpg\): the picture is damaged .* --skip-bad"):
        read(feeder, 12)


@pytest.mark.parametrize("settings", [{"cache_in_memory": "always"}, {"cache_in_memory": "never"}, {"streaming": True}])
def test_bad_pictures_are_left_out_by_name(damaged_folder, settings):
    feeder = make_feeder(damaged_folder, skip_bad=True, batch_size=23, **settings)
    (batch,) = read(feeder, 1)[0]
    assert sorted(batch["indices"].tolist()) == [index for index in range(24) if index != 5]
    (line,) = feeder.take_problems()
    assert "05.png is damaged" in line and feeder.take_problems() == []


def test_skipping_in_a_stream_keeps_processes_in_step(damaged_folder):
    common = {"streaming": True, "skip_bad": True, "shuffle_block": 6}
    whole = read(make_feeder(damaged_folder, batch_size=4, **common), 5)
    shares = [read(make_feeder(damaged_folder, 2, rank, batch_size=2, **common), 5) for rank in (0, 1)]
    for (batch,), (left,), (right,) in zip(whole, *shares, strict=True):
        assert torch.equal(batch["indices"], torch.cat([left["indices"], right["indices"]]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 25}, r"A step takes 25 pictures .* but the data has 24"),
        ({"batch_size": 9, "gradient_accumulation": 3}, "A step takes 27 pictures"),
        ({"batch_size": 25, "streaming": True}, "fewer than 25 readable pictures"),
        ({"streaming": True, "cache_in_memory": "always"}, "A stream is not kept in memory"),
    ],
)
def test_settings_that_the_data_cannot_serve(picture_folder, settings, said):
    with pytest.raises(UserError, match=said) as caught:
        read(make_feeder(picture_folder, **settings), 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("./nowhere.parquet", "there is no such file"),
        ("nowhere-*.tar", "cannot be loaded as a data set"),
        ("nowhere.tar", "there is no such file"),
        ("{empty}", "holds no pictures"),
        ("{folder}[50:]", "holds no picture"),
        ("{folder}[::0]", "a step of 0"),
        ("{table}:label", None),
    ],
)
def test_places_without_pictures(place, said, picture_folder, picture_table, tmp_path):
    (tmp_path / "empty").mkdir()
    column = "label" if said is None else None
    place = place.removesuffix(":label").format(empty=tmp_path / "empty", folder=picture_folder, table=picture_table)
    with pytest.raises(UserError, match=said or "has no column 'label' of pictures") as caught:
        open_pictures([place], column=column)
    assert "\n" not in str(caught.value)


def test_the_last_pictures_that_fill_no_step_differ_from_epoch_to_epoch():
    share = Share(batch_size=3, accumulation=2, processes=2)
    assert share.steps_per_epoch(26) == 2
    batches = list(islice(share.batches(np.arange(100, 126), 0), 8))
    for epoch in (0, 1):
        mine = [index for batch in batches[epoch * 4 : epoch * 4 + 4] for _, index in batch]
        assert len(set(mine)) == 12 and min(mine) >= 100
    assert {epoch for batch in batches[:4] for epoch, _ in batch} == {0}
    assert {epoch for batch in batches[4:] for epoch, _ in batch} == {1}


def test_preview_shows_the_same_centre_squares_each_time(picture_folder):
    feeder = make_feeder(picture_folder)
    squares, pictures = feeder.preview(3)
    assert squares.shape == (3, SIZE, SIZE, 3) and squares.dtype == torch.uint8
    assert [np.asarray(picture).tolist() for picture in pictures] == [
        np.asarray(Image.open(path)).tolist() for path in sorted(picture_folder.iterdir())[::8]
    ]
    assert torch.equal(squares, feeder.preview(3)[0])


@pytest.mark.parametrize("first", [0, 2, 4])
def test_a_look_at_a_stream_and_its_reading_do_not_disturb_each_other(picture_table, first):
    common = {"streaming": True, "shuffle_block": 5}
    feeder, shown = make_feeder(picture_table, **common), make_feeder(picture_table, **common).preview(6)[0]
    batches, positions = [], [None]
    for step in islice(feeder.steps(), 9):
        batches.append(step)
        positions.append(feeder.position)
    feeder = make_feeder(picture_table, **common)
    steps = feeder.steps(first, positions[first])
    assert same([next(steps)], batches[first : first + 1])
    assert torch.equal(feeder.preview(6)[0], shown)
    assert same(list(islice(steps, 3)), batches[first + 1 : first + 4])


def test_length_of_a_table_is_that_of_its_usable_pictures(damaged_folder):
    table = PictureTable(open_pictures([str(damaged_folder)]), Cropping(SIZE), skip_bad=True)
    assert len(table) == 23 and 5 not in table.usable
