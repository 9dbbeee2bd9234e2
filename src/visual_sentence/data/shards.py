"""Token shards: images that a VQGAN has written as tokens, in Parquet files that say which VQGAN it was.

A row holds the tokens of a few images that belong together: a pair (input and target of a task), or a sequence
(frames). docs/token_shards.md describes the files.
"""

import json
import os
import re
import shutil
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from .token_rows import LAYOUTS, PAIR, SEQUENCE, TEXT_COLUMNS, TokenColumns, TokenHeader, TokenRow

HEADER_KEY = b"visual_sentence"
MANIFEST = "manifest.json"
# Rows that are read together: few enough that a stream's blocks mix many of them, enough that reading stays fast.
ROW_GROUP = 256
SHARD_ROWS = 2048
IMAGES_OF_A_PAIR = 2
AGAIN = "delete it and run scripts/tokenize_dataset.py again, which writes what is missing"


def shard_name(number: int) -> str:
    """The file name of shard `number`."""
    return f"shard-{number:05d}.parquet"


@contextmanager
def written_aside(path: Path) -> Generator[Path, None, None]:
    """A path beside `path` to write to, renamed to it when the block is done; whatever ends it before leaves nothing.

    Args:
        path: The file or folder to be; the one it lies in is made.

    Raises:
        UserError: If it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        aside.replace(path)
        _remove_left_overs(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}): choose another folder or make room.") from error
    finally:
        with suppress(OSError):  # where the folder itself is none, that is what was said
            _remove(aside)


def _remove_left_overs(path: Path) -> None:
    """Removes what processes that were killed have left beside `path`."""
    kind = re.compile(re.escape(f".{path.name}.") + r"\d+\.part")
    for left in path.parent.iterdir():
        if kind.fullmatch(left.name):
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # where nothing could be written, there is nothing to remove
            path.unlink()


def write_shard(path: str | Path, header: TokenHeader, rows: Iterable[TokenRow]) -> int:
    """Writes one shard, whole or not at all.

    Args:
        path: The file to be.
        header: Whose tokens the rows hold.
        rows: Taken as they are needed.

    Returns:
        How many rows there were.

    Raises:
        ValueError: If a row's layout is unknown, its tokens are not whole images or lie outside the codebook.
        UserError: If the file cannot be written.
    """
    rows, written = iter(rows), 0
    columns = [("tokens", pa.list_(pa.from_numpy_dtype(header.dtype)))]
    columns += [(name, pa.string()) for name in TEXT_COLUMNS] + [("index", pa.int64())]
    schema = pa.schema(columns, metadata={HEADER_KEY: header.to_json().encode()})
    with written_aside(Path(path)) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as file:
        while group := list(islice(rows, ROW_GROUP)):
            for row in group:
                check_row(row, header)
            file.write_table(_table(group, schema), row_group_size=ROW_GROUP)
            written += len(group)
    return written


def write_shards(
    folder: str | Path, header: TokenHeader, rows: Iterable[TokenRow], shard_rows: int = SHARD_ROWS
) -> list[Path]:
    """Writes rows as shards shard-00000.parquet, shard-00001.parquet, ..., all of them or none.

    Args:
        folder: Where to; must not exist, or be empty.
        header: Whose tokens the rows hold.
        rows: Taken as they are needed.
        shard_rows: Rows of a shard.

    Raises:
        ValueError: If a row does not go with the header.
        UserError: If the folder is not empty, cannot be written, or a shard has less than a row.
    """
    folder, rows, written = Path(folder), iter(rows), []
    if shard_rows < 1:
        raise UserError(f"{shard_rows} rows a shard are none: give 1 or more.")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} exists and is no empty folder, and shards would mix with it: choose another.")
    with written_aside(folder) as aside:
        aside.mkdir()
        while group := list(islice(rows, shard_rows)):
            written.append(shard_name(len(written)))
            write_shard(aside / written[-1], header, group)
    return [folder / name for name in written]


def check_row(row: TokenRow, header: TokenHeader) -> None:
    """Refuses a row that no shard of this header can hold.

    Raises:
        ValueError: If its layout is unknown, its tokens are not whole images or lie outside the codebook.
    """
    tokens, size = np.asarray(row.tokens), header.tokens_per_image
    images, rest = divmod(len(tokens), size)
    if row.layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {row.layout!r}.")
    if rest or not images or (row.layout == PAIR and images != IMAGES_OF_A_PAIR):
        wanted = "2 images" if row.layout == PAIR else "whole images"
        raise ValueError(f"A {row.layout} has the tokens of {wanted}, {size} each, got {len(tokens)}.")
    if tokens.min() < 0 or tokens.max() >= header.codebook_size:
        raise ValueError(f"Tokens must lie in [0, {header.codebook_size}), got {tokens.min()} to {tokens.max()}.")


def _table(rows: Sequence[TokenRow], schema: pa.Schema) -> pa.Table:
    dtype = schema.field("tokens").type.value_type.to_pandas_dtype()
    tokens = np.concatenate([np.asarray(row.tokens).astype(dtype) for row in rows])
    offsets = np.cumsum([0] + [len(row.tokens) for row in rows]).astype(np.int32)
    columns = [pa.ListArray.from_arrays(pa.array(offsets), pa.array(tokens))]
    columns += [pa.array([getattr(row, name) for row in rows], pa.string()) for name in TEXT_COLUMNS]
    columns.append(pa.array([row.index for row in rows], pa.int64()))
    return pa.Table.from_arrays(columns, schema=schema)


@dataclass(frozen=True)
class ShardFile:
    """A shard as its metadata describe it.

    Args:
        path: The file.
        num_rows: Its rows.
        header: Whose tokens it holds.
    """

    path: Path
    num_rows: int
    header: TokenHeader

    @classmethod
    def open(cls, path: str | Path) -> "ShardFile":
        """Reads a shard's metadata.

        Raises:
            UserError: If there is no such file, it is cut off or no Parquet, or it is no shard.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path}: there is no such token shard: check the path.")
        try:
            metadata = pq.read_metadata(path)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} is no Parquet file, or is cut off ({_first_line(error)}): {AGAIN}.") from error
        text = (metadata.metadata or {}).get(HEADER_KEY)
        if text is None:
            raise UserError(
                f"{path} does not say which VQGAN its tokens are of, so they cannot be read: give shards written by "
                "scripts/tokenize_dataset.py."
            )
        try:
            return cls(path, metadata.num_rows, TokenHeader.from_json(text))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} has a header that this version does not understand ({error}): update the package, or tokenize "
                "again."
            ) from error

    def read(self, start: int = 0, stop: int | None = None) -> TokenColumns:
        """Rows start..stop-1; all by default. Only the row groups that hold them are read.

        Raises:
            UserError: If the file is damaged.
        """
        stop = self.num_rows if stop is None else min(stop, self.num_rows)
        try:
            with pq.ParquetFile(self.path) as file:
                sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
                ends = np.cumsum([0, *sizes])
                wanted = [number for number in range(len(sizes)) if ends[number] < stop and ends[number + 1] > start]
                table = file.read_row_groups(wanted)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self.path} is damaged ({_first_line(error)}): {AGAIN}.") from error
        before = int(ends[wanted[0]]) if wanted else 0
        return TokenColumns.from_table(table.slice(max(0, start - before), max(0, stop - start)))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


class TokenShards(Sequence):
    """The rows of shards, one shard after the other; what is not asked for is not read.

    Args:
        files: The shards, all of one header.
        name: What the user calls them.
    """

    def __init__(self, files: Sequence[ShardFile], name: str):
        self.files, self.name = list(files), name
        self.header = self.files[0].header

    @classmethod
    def open(cls, reference: str | Path | Sequence[str | Path], header: TokenHeader | None = None) -> "TokenShards":
        """Opens shards by their metadata.

        Args:
            reference: A shard, a folder of shards, a pattern with `*`, or a list of these.
            header: Of the model that is to read them; shards of any one VQGAN are good without it.

        Raises:
            UserError: If nothing is found, shards are missing, damaged or of several VQGANs, or they are of another
                VQGAN than the header's.
        """
        references = [reference] if isinstance(reference, (str, Path)) else list(reference)
        name = ", ".join(map(str, references))
        files = [ShardFile.open(path) for one in references for path in find_shards(one)]
        if not files:
            raise UserError("No token shards were named: give a folder that scripts/tokenize_dataset.py wrote.")
        if header is not None:
            files[0].header.check_same(header, str(files[0].path))
        for file in files[1:]:
            if file.header != files[0].header:
                raise UserError(
                    f"{files[0].path} and {file.path} hold tokens of two VQGANs ({files[0].header.vqgan_sha256[:12]} "
                    f"and {file.header.vqgan_sha256[:12]}), which cannot be in one sentence: give shards of one."
                )
        if not sum(file.num_rows for file in files):
            raise UserError(f"{name} holds no rows: tokenize some pictures first.")
        return cls(files, name)

    @cached_property
    def rows(self) -> TokenColumns:
        """All rows, in memory from the first use on."""
        return TokenColumns.concatenate([file.read() for file in self.files])

    def __len__(self) -> int:
        return sum(file.num_rows for file in self.files)

    def __getitem__(self, place: int) -> TokenRow:
        if not -len(self) <= place < len(self):
            raise IndexError(f"row {place} of {len(self)}")
        return self.rows.row(place % len(self))


def find_shards(reference: str | Path) -> list[Path]:
    """The shards that a path, a folder or a pattern means, in order of name.

    Raises:
        UserError: If there is none, or the folder's plan names shards that are not there.
    """
    path = Path(reference).expanduser()
    if path.is_dir():
        found = sorted(path.glob("*.parquet"))
        missing = planned_shards(path) - {file.name for file in found}
        if missing:
            raise UserError(
                f"{path} lacks {len(missing)} of the {len(planned_shards(path))} shards of its plan, as tokenizing was "
                "interrupted: run the same scripts/tokenize_dataset.py again, which writes what is missing."
            )
        if not found:
            raise UserError(f"{path} holds no token shards (*.parquet): run scripts/tokenize_dataset.py first.")
        return found
    if "*" in path.name:
        found = sorted(path.parent.glob(path.name))
        if not found:
            raise UserError(f"{reference} matches no file: check the pattern.")
        return found
    return [path]


def planned_shards(folder: Path) -> set[str]:
    """File names that the plan in a folder of shards names; none without a plan."""
    try:
        return {shard["file"] for shard in json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["shards"]}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / MANIFEST} cannot be read ({error}): delete {folder}, tokenize again.") from error


__all__ = [
    "MANIFEST",
    "PAIR",
    "SEQUENCE",
    "SHARD_ROWS",
    "ShardFile",
    "TokenColumns",
    "TokenHeader",
    "TokenRow",
    "TokenShards",
    "check_row",
    "find_shards",
    "planned_shards",
    "shard_name",
    "write_shard",
    "write_shards",
    "written_aside",
]
