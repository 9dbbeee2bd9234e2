import numpy as np
import pytest

from visual_sentence.codebook.steps import ChunkFolder, replacing
from visual_sentence.errors import UserError


def test_chunks_come_back_in_order(tmp_path):
    chunks = ChunkFolder(tmp_path, {"step": 1})
    for i in range(11):
        chunks.append(np.full((2, 3), i))
    again = ChunkFolder(tmp_path, {"step": 1})
    assert (len(again), again.rows) == (11, 22)
    assert [int(chunk[0, 0]) for chunk in again] == list(range(11))


def test_other_settings_are_refused_by_name(tmp_path):
    ChunkFolder(tmp_path, {"same": "x", "size": 3, "names": ("a", "b")})
    ChunkFolder(tmp_path, {"same": "x", "size": 3, "names": ("a", "b")})
    with pytest.raises(UserError, match=r"names was .* and is now .*; size was 3 and is now 4.*Delete") as error:
        ChunkFolder(tmp_path, {"same": "x", "size": 4, "names": ["a"]})
    assert "same" not in str(error.value)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as aside:
        aside.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
