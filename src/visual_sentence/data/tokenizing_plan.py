"""The plan of tokenizing: which pairs go into which shard, settled before any is written."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from .augmentation import Augmentation
from .shards import MANIFEST, SHARD_ROWS, ShardFile, shard_name, written_aside
from .specs import TaskData
from .token_rows import TokenHeader


@dataclass(frozen=True)
class Unit:
    """Pairs start..stop-1 of one set of data: one shard.

    Args:
        file: The shard's name.
        data: Number of the set of data.
        start, stop: Of the pairs' numbers.
    """

    file: str
    data: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def is_written(self, folder: Path, header: TokenHeader) -> bool:
        """Whether the shard is there, whole and of this VQGAN."""
        try:
            found = ShardFile.open(folder / self.file)
        except UserError:
            return False
        return found.num_rows == len(self) and found.header == header


@dataclass(frozen=True)
class Plan:
    """Everything that decides what stands in the shards.

    Args:
        header: Whose tokens.
        data: The sets' specifications, with the number of pairs of each.
        seed: Of all that is drawn.
        augment: The augmentation's settings; None without.
        units: The shards.
    """

    header: TokenHeader
    data: list[tuple[str, int]]
    seed: int
    augment: dict[str, Any] | None
    units: list[Unit]

    @classmethod
    def make(
        cls,
        header: TokenHeader,
        data: Sequence[TaskData],
        shard_rows: int = SHARD_ROWS,
        seed: int = 0,
        augment: Augmentation | None = None,
    ) -> "Plan":
        """Cuts the pairs of all sets of data into shards.

        Raises:
            UserError: If there is no data, or a shard has less than a row.
        """
        if not data:
            raise UserError("No data were named: give at least one TASK:SOURCE.")
        if shard_rows < 1:
            raise UserError(f"{shard_rows} rows a shard are none: give 1 or more.")
        counts = [len(one.source) * one.draws for one in data]
        ranges = [
            (number, start, min(start + shard_rows, count))
            for number, count in enumerate(counts)
            for start in range(0, count, shard_rows)
        ]
        units = [Unit(shard_name(place), *one) for place, one in enumerate(ranges)]
        texts = [one.text for one in data]
        return cls(
            header, list(zip(texts, counts, strict=True)), seed, None if augment is None else asdict(augment), units
        )

    def to_json(self) -> dict[str, Any]:
        """What stands in the manifest."""
        return {
            **json.loads(self.header.to_json()),
            "data": [{"text": text, "pairs": pairs} for text, pairs in self.data],
            "seed": self.seed,
            "augment": json.loads(json.dumps(self.augment)),
            "shards": [asdict(unit) for unit in self.units],
        }

    def settle(self, folder: Path) -> None:
        """Writes the plan into a folder, or finds that the folder is being filled by the very same plan.

        Raises:
            UserError: If the folder's plan is another, or it holds other shards.
        """
        path, wanted = folder / MANIFEST, self.to_json()
        if not path.exists():
            if any(folder.glob("*.parquet")):
                raise UserError(f"{folder} holds Parquet files of something else: choose another folder.")
            with written_aside(path) as aside:
                aside.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            differing = [key for key in wanted if found.get(key) != wanted[key]]
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"{path} cannot be read ({error}): delete {folder}, or choose another.") from error
        if differing:
            key = differing[0]
            was, now = (json.dumps(values.get(key)) for values in (found, wanted))
            shown = f" ({_short(was)}, now {_short(now)})" if key != "shards" else " (other rows a shard)"
            raise UserError(
                f"{folder} was begun with another {key}{shown}, so its shards and new ones would not belong together: "
                "give the same options to go on, or choose another folder."
            )


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


__all__ = ["Plan", "Unit"]
