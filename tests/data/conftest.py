"""Examples and sources made of numbers, and a writer of small tables."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from visual_sentence.data import Example, ExampleSource

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


class ListSource(ExampleSource):
    """Examples that are already there."""

    def __init__(self, examples: list[Example], name: str = "list"):
        self.examples, self.name = examples, name

    def __len__(self) -> int:
        return len(self.examples)

    def source_of(self, index: int) -> str:
        return self.examples[index].source

    def example(self, index: int) -> Example:
        return self.examples[index]


def png(picture: Image.Image | np.ndarray, kind: str = "PNG") -> dict:
    """A picture as a cell of a table."""
    buffer = BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, kind)
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def noise() -> Image.Image:
    """24 x 20 pixels of random colours."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))


@pytest.fixture
def list_source() -> type[ListSource]:
    return ListSource


@pytest.fixture
def cell():
    return png


@pytest.fixture
def write_table(tmp_path):
    """Writes rows as a Parquet file and gives its path."""

    def write(rows: list[dict], name: str = "rows.parquet") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
        return str(path)

    return write


@pytest.fixture
def real_data():
    """The path of a file of real data, or a skip where it is absent."""

    def find(name: str) -> str:
        if not (SHARED / name).exists():
            pytest.skip(f"needs the data set {name}, which is not here")
        return str(SHARED / name)

    return find
