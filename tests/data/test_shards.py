"""Token shards: what is written comes back, whole or not at all, and only to the VQGAN that it is of."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from visual_sentence.data.shards import (
    ShardFile,
    TokenHeader,
    TokenRow,
    TokenShards,
    write_shard,
    write_shards,
    written_aside,
)
from visual_sentence.errors import UserError

HEADER = TokenHeader("0123456789abcdef" * 4, 50, (2, 3))


def make_rows(count: int, seed: int = 0, codebook_size: int = 50) -> list[TokenRow]:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        images = 2 if number % 3 else 4
        layout = "pair" if number % 3 else "sequence"
        tokens = rng.integers(0, codebook_size, images * 6)
        rows.append(TokenRow(tokens, f"task{number % 2}", f"s={number % 5}", f"photo {number // 4}", layout, number))
    return rows


def same(found: TokenRow, wanted: TokenRow) -> bool:
    names = ("task", "setting", "source", "layout", "index")
    equal = all(getattr(found, name) == getattr(wanted, name) for name in names)
    return equal and found.tokens.tolist() == wanted.tokens.tolist()


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = make_rows(600)  # more than two groups of rows in the first shard
    paths = write_shards(tmp_path / "out", HEADER, iter(rows), shard_rows=550)
    assert [path.name for path in paths] == ["shard-00000.parquet", "shard-00001.parquet"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [path.name for path in paths]
    shards = TokenShards.open(tmp_path / "out", HEADER)
    assert len(shards) == 600 and shards.header == HEADER
    assert all(same(found, wanted) for found, wanted in zip(shards, rows, strict=True))
    assert same(shards[-1], rows[-1])
    assert shards.rows.tokens.dtype == np.uint16
    with pytest.raises(IndexError):
        shards[600]


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 600), (255, 257), (256, 512), (300, 300), (599, 700)])
def test_any_range_of_rows_can_be_read(tmp_path, start, stop):
    rows = make_rows(600)
    write_shard(tmp_path / "one.parquet", HEADER, rows)
    found = ShardFile.open(tmp_path / "one.parquet").read(start, stop)
    wanted = rows[start:stop]
    assert len(found) == len(wanted)
    assert all(same(found.row(place), row) for place, row in enumerate(wanted))


def test_large_codebooks_take_wider_numbers(tmp_path):
    for size, kind in ((2**16, "uint16"), (2**16 + 1, "uint32")):
        header = TokenHeader("ab" * 32, size, (2, 3))
        row = TokenRow(np.array([0, size - 1] * 6), "edges")
        write_shard(tmp_path / f"{kind}.parquet", header, [row])
        assert str(pq.read_schema(tmp_path / f"{kind}.parquet").field("tokens").type.value_type) == kind
        assert same(TokenShards.open(tmp_path / f"{kind}.parquet")[0], row)


def test_any_parquet_reader_understands_a_shard(tmp_path):
    rows = make_rows(5)
    write_shard(tmp_path / "one.parquet", HEADER, rows)
    table = pq.read_table(tmp_path / "one.parquet").to_pylist()
    assert table[1]["tokens"] == rows[1].tokens.tolist()
    assert list(table[0]) == ["tokens", "task", "setting", "source", "layout", "index"]


def test_references(tmp_path):
    write_shards(tmp_path / "a", HEADER, make_rows(5), shard_rows=2)
    write_shards(tmp_path / "b", HEADER, make_rows(3))
    both = TokenShards.open([tmp_path / "a", str(tmp_path / "b")])
    assert len(both) == 8
    assert len(TokenShards.open(str(tmp_path / "a" / "shard-0000[!0]*"))) == 3  # without the first shard
    assert len(TokenShards.open(tmp_path / "a" / "shard-00002.parquet")) == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (TokenRow(np.arange(11), "edges"), "2 images, 6 each, got 11"),
        (TokenRow(np.arange(18), "edges"), "2 images, 6 each, got 18"),
        (TokenRow(np.array([], int), "edges", layout="sequence"), "whole images, 6 each, got 0"),
        (TokenRow(np.full(12, 50), "edges"), r"\[0, 50\), got 50 to 50"),
        (TokenRow(np.full(12, -1), "edges"), r"\[0, 50\), got -1"),
        (TokenRow(np.arange(12), "edges", layout="list"), "pair, sequence, got 'list'"),
    ],
)
def test_bad_rows_are_refused_and_leave_nothing(tmp_path, row, said):
    with pytest.raises(ValueError, match=said):
        write_shard(tmp_path / "one.parquet", HEADER, [*make_rows(300), row])
    with pytest.raises(ValueError, match=said):
        write_shards(tmp_path / "many", HEADER, [*make_rows(300), row], shard_rows=100)
    assert list(tmp_path.iterdir()) == []


def test_left_overs_of_the_killed_are_removed_and_nothing_else(tmp_path):
    for name in (".one.parquet.17.part", ".one.parquet.old", ".two.parquet.17.part"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".one.parquet.18.part").mkdir()
    write_shard(tmp_path / "one.parquet", HEADER, make_rows(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".one.parquet.old",
        ".two.parquet.17.part",
        "one.parquet",
    ]


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"), written_aside(tmp_path / "file" / "x") as aside:
        aside.write_text("x")
    with pytest.raises(UserError, match="is no empty folder"):
        write_shards(tmp_path, HEADER, make_rows(1))
    with pytest.raises(UserError, match="0 rows a shard"):
        write_shards(tmp_path / "new", HEADER, make_rows(1), shard_rows=0)


def test_tokens_of_another_vqgan_are_refused_by_name(tmp_path):
    write_shards(tmp_path / "a", HEADER, make_rows(3))
    other = TokenHeader("f" * 64, 50, (2, 3))
    with pytest.raises(UserError, match=r"VQGAN 0123456789ab.*model's VQGAN is ffffffffffff.*tokenize_dataset\.py"):
        TokenShards.open(tmp_path / "a", other)
    with pytest.raises(UserError, match=r"images of 2 x 3 tokens out of 50.*model's have 4 x 4 out of 50"):
        TokenShards.open(tmp_path / "a", TokenHeader(HEADER.vqgan_sha256, 50, (4, 4)))
    write_shards(tmp_path / "b", other, make_rows(3))
    with pytest.raises(UserError, match=r"two VQGANs \(0123456789ab and ffffffffffff\)"):
        TokenShards.open([tmp_path / "a", tmp_path / "b"])


def test_broken_shards_are_one_line_each(tmp_path):
    write_shard(tmp_path / "one.parquet", HEADER, make_rows(600))
    whole = (tmp_path / "one.parquet").read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "text": b"not parquet at all", "empty": b""}.items():
        (tmp_path / f"{name}.parquet").write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}\.parquet is no Parquet file, or is cut off"):
            TokenShards.open(tmp_path / f"{name}.parquet")
    pq.write_table(pa.table({"tokens": [[1, 2]]}), tmp_path / "foreign.parquet")
    with pytest.raises(UserError, match="does not say which VQGAN"):
        TokenShards.open(tmp_path / "foreign.parquet")
    later = pa.table({"tokens": [[1]]}).replace_schema_metadata({"visual_sentence": '{"version": 9}'})
    pq.write_table(later, tmp_path / "later.parquet")
    with pytest.raises(UserError, match="version 9, known is 1"):
        TokenShards.open(tmp_path / "later.parquet")
    with pytest.raises(UserError, match="there is no such token shard"):
        TokenShards.open(tmp_path / "nowhere.parquet")
    with pytest.raises(UserError, match="matches no file"):
        TokenShards.open(tmp_path / "x*.parquet")
    damaged = bytearray(whole)
    damaged[200:2000] = bytes(1800)
    (tmp_path / "damaged.parquet").write_bytes(damaged)
    with pytest.raises(UserError, match=r"damaged\.parquet is damaged"):
        TokenShards.open(tmp_path / "damaged.parquet").rows  # noqa: B018
    write_shard(tmp_path / "norows.parquet", HEADER, [])
    with pytest.raises(UserError, match="holds no rows"):
        TokenShards.open(tmp_path / "norows.parquet")


def test_a_folder_that_is_still_being_filled_is_refused(tmp_path):
    write_shards(tmp_path / "a", HEADER, make_rows(3))
    plan = '{"shards": [{"file": "shard-00000.parquet"}, {"file": "shard-00001.parquet"}]}'
    (tmp_path / "a" / "manifest.json").write_text(plan)
    with pytest.raises(UserError, match="lacks 1 of the 2 shards"):
        TokenShards.open(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").write_text("[")
    with pytest.raises(UserError, match=r"manifest\.json cannot be read"):
        TokenShards.open(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no token shards"):
        TokenShards.open(tmp_path / "empty")
