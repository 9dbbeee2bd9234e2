"""LVM's and DeLVM's files: what we write their readers read, what they write we read, and bad lines are named."""

import base64
import json

import numpy as np
import pytest

from visual_sentence.data.delvm_format import read_delvm, write_delvm
from visual_sentence.data.lvm_format import read_lvm, write_lvm
from visual_sentence.data.shards import TokenHeader, TokenShards, write_shards
from visual_sentence.data.token_sentences import SentenceTable
from visual_sentence.errors import UserError

HEADER = TokenHeader("ab" * 32, 300, (1, 2))
SENTENCES = [np.arange(8), np.arange(8) + 290, np.array([0, 299, 5, 6])]
SENTENCES[1][-1] = 0
SENTENCES[1] %= 300


def lvm_line(numbers: list[int]) -> str:
    return json.dumps({"tokens": base64.b64encode(np.array(numbers, "<i4").tobytes()).decode()}) + "\n"


def test_lvm_reads_what_we_write(tmp_path):
    assert write_lvm(tmp_path / "dataset.jsonl", SENTENCES) == 3
    # EasyLM/data.py: np.frombuffer(b64decode(example["tokens"]), dtype="i4")
    lines = (tmp_path / "dataset.jsonl").read_text().splitlines()
    found = [np.frombuffer(base64.b64decode(json.loads(line)["tokens"]), dtype="<i4") for line in lines]
    assert [one.tolist() for one in found] == [one.tolist() for one in SENTENCES]


def test_a_line_of_lvm_worked_out_by_hand(tmp_path):
    # 1, 256, 0, 2 as little-endian int32: 01000000 00010000 00000000 02000000
    (tmp_path / "one.jsonl").write_text('{"tokens": "AQAAAAABAAAAAAAAAgAAAA=="}\n\n')
    (row,) = read_lvm(tmp_path / "one.jsonl", HEADER)
    assert row.tokens.tolist() == [1, 256, 0, 2]
    assert (row.layout, row.task, row.setting, row.source, row.index) == ("sequence", "lvm", "", "one.jsonl:1", 0)


def test_delvm_reads_what_we_write(tmp_path):
    assert write_delvm(tmp_path, SENTENCES) == 3
    # InternLM's JsonlDataset: seek to the line's first byte, read the line
    meta = np.load(tmp_path / "train.bin.meta")
    assert meta.dtype == np.int64 and meta[:, 1].tolist() == [8, 8, 4]
    with (tmp_path / "train.bin").open("rb") as file:
        for (begin, _), wanted in zip(meta, SENTENCES, strict=True):
            file.seek(begin)
            assert json.loads(file.readline())["tokens"] == wanted.tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.bin", "train.bin.meta"]


@pytest.mark.parametrize("kind", ["lvm", "delvm"])
def test_files_come_back_through_shards(tmp_path, kind):
    write, read = (write_lvm, read_lvm) if kind == "lvm" else (write_delvm, read_delvm)
    path = tmp_path / "in" / "x.jsonl" if kind == "lvm" else tmp_path / "in"
    write(path, SENTENCES)
    write_shards(tmp_path / "out", HEADER, read(path, HEADER, layout="sequence"))
    table = SentenceTable(TokenShards.open(tmp_path / "out", HEADER))
    found = sorted(sentence.tokens.tolist() for sentence in table.epoch(0))
    assert found == sorted(one.tolist() for one in SENTENCES)


def test_pairs_of_a_long_line_stay_among_themselves(tmp_path):
    write_delvm(tmp_path, SENTENCES)
    rows = list(read_delvm(tmp_path / "train.bin", HEADER))
    assert [row.tokens.tolist() for row in rows] == [part.tolist() for one in SENTENCES for part in one.reshape(-1, 4)]
    assert [row.setting for row in rows] == ["line=1", "line=1", "line=2", "line=2", ""]
    assert len({row.source for row in rows}) == 5
    assert {(row.layout, row.task) for row in rows} == {("pair", "delvm")}


def test_lines_of_single_pairs_are_composed_with_each_other(tmp_path):
    write_lvm(tmp_path / "pairs.jsonl", [np.arange(4) + 10 * number for number in range(9)])
    write_shards(tmp_path / "out", HEADER, read_lvm(tmp_path / "pairs.jsonl", HEADER, "pairs", "edges"))
    sentences = SentenceTable(TokenShards.open(tmp_path / "out"), (2, 2)).epoch(0)
    assert [one.num_images for one in sentences] == [6, 6, 6]
    assert {one.task for one in sentences} == {"edges"}


@pytest.mark.parametrize(
    ("line", "layout", "said"),
    [
        ("nonsense\n", "sequence", "line 2 is no"),
        ('{"text": "x"}\n', "sequence", "line 2 is no"),
        ('{"tokens": "AQAAAA"}\n', "sequence", "line 2 is no"),  # base64 without its padding
        ('{"tokens": "AQAA"}\n', "sequence", "line 2 is no"),  # three bytes
        (lvm_line([1, 2, 3]), "sequence", "line 2 has 3 tokens, which are no whole images of 2"),
        (lvm_line([]), "sequence", "line 2 has 0 tokens"),
        (lvm_line([1, 300]), "sequence", "line 2 has the token 300 at place 1, but the model's codebook ends at 299"),
        (lvm_line([-1, 3]), "sequence", "line 2 has the token -1 at place 0"),
        (lvm_line([1, 2]), "pairs", "line 2 has 1 images, which are no pairs"),
        (lvm_line([1, 2]), "list", "no layout 'list': choose one of sequence, pairs"),
    ],
)
def test_bad_lines_of_lvm_are_named(tmp_path, line, layout, said):
    (tmp_path / "x.jsonl").write_text(lvm_line([1, 2, 3, 4]) + line)
    with pytest.raises(UserError, match=said):
        list(read_lvm(tmp_path / "x.jsonl", HEADER, layout))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("\n", "line 2 is no"),
        ('{"tokens": [1, 2, "x", 4]}\n', "line 2 is no"),
        ('{"tokens": 5}\n', "line 2 is no"),
        ('{"tokens": [[1, 2], [3, 4]]}\n', "line 2 is no"),
        ('{"tokens": [1, 2.5, 3, 4]}\n', "line 2 is no"),
        ('{"tokens": [1, 99999999999999999999]}\n', "line 2 is no"),
        ('{"tokens": [1, 2, 3, 8192]}\n', "line 2 has the token 8192 at place 3"),
    ],
)
def test_bad_lines_of_delvm_are_named(tmp_path, line, said):
    (tmp_path / "train.bin").write_text('{"tokens": [1, 2, 3, 4]}\n' + line)
    with pytest.raises(UserError, match=said):
        list(read_delvm(tmp_path, HEADER))


def test_bin_and_meta_must_agree(tmp_path):
    write_delvm(tmp_path, SENTENCES)
    whole, meta = (tmp_path / "train.bin").read_bytes(), np.load(tmp_path / "train.bin.meta")
    for content in (whole[: whole.index(b"\n") + 1], whole + b'{"tokens": [1, 2]}\n', b" " + whole):
        (tmp_path / "train.bin").write_bytes(content)
        with pytest.raises(UserError, match=r"line \d is not as train\.bin\.meta says"):
            list(read_delvm(tmp_path, HEADER))
    (tmp_path / "train.bin").write_bytes(whole)
    with (tmp_path / "train.bin.meta").open("wb") as file:
        np.save(file, meta.astype(np.int32))  # InternLM's own tool writes 32 bits
    assert len(list(read_delvm(tmp_path, HEADER))) == 5
    (tmp_path / "train.bin.meta").write_bytes(b"x")
    with pytest.raises(UserError, match="no table of"):
        list(read_delvm(tmp_path, HEADER))
    (tmp_path / "train.bin.meta").unlink()
    assert len(list(read_delvm(tmp_path, HEADER))) == 5


def test_missing_files_are_one_line(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        list(read_lvm(tmp_path / "x.jsonl", HEADER))
    with pytest.raises(UserError, match=r"train\.bin: there is no such file"):
        list(read_delvm(tmp_path, HEADER))
