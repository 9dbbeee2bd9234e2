"""The named values of a source's configuration file, each asked for by name and checked."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError


class Settings:
    """A configuration as a mapping.

    Args:
        path: The file, for messages.
        values: What it says.
        section: Where in the file the values stand, for messages.
    """

    def __init__(self, path: Path, values: dict[str, Any], section: str = ""):
        self.path, self.values, self.section = path, values, section

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Reads a JSON or YAML file, the latter without anything that is not a plain value.

        Raises:
            UserError: If it cannot be read or is no mapping.
        """
        try:
            text = path.read_text(encoding="utf-8")
            values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (OSError, ValueError, yaml.YAMLError) as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"{path} cannot be read as a configuration ({said}): fetch it again.") from error
        if not isinstance(values, dict):
            raise UserError(f"{path} holds no named values, so it is no model's configuration: check the path.")
        return cls(path, values)

    def part(self, name: str) -> "Settings":
        """The values under a name.

        Raises:
            UserError: If there are none.
        """
        values = self.values.get(name)
        if not isinstance(values, dict):
            raise self.error(name, "a group of values", values)
        return Settings(self.path, values, f"{self.section}{name}.")

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number above zero.

        Raises:
            UserError: If there is none and no default.
        """
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.error(name, "a whole number above zero", value)
        return value

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """A list of whole numbers above zero, perhaps empty.

        Raises:
            UserError: If there is none and no default.
        """
        value = self.values.get(name)
        if value is None and default is not None:
            return list(default)
        if not isinstance(value, list) or any(type(item) is not int or item < 1 for item in value):
            raise self.error(name, "a list of whole numbers", value)
        return value

    def number(self, name: str, default: float) -> float:
        """A number above zero.

        Raises:
            UserError: If it is something else.
        """
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise self.error(name, "a number above zero", value)
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false.

        Raises:
            UserError: If it is something else.
        """
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            raise self.error(name, "true or false", value)
        return value

    def require(self, name: str, supported: Any, default: Any, why: str) -> None:
        """Refuses a source that is built in a way our models are not.

        Args:
            name: Of the value.
            supported: The only one that our models know.
            default: What the source takes where nothing is said.
            why: What the value stands for.

        Raises:
            UserError: If the value is another.
        """
        found = self.values.get(name, default)
        if found != supported:
            raise UserError(
                f"{self.path} says {self.section}{name}: {json.dumps(found, default=str)} ({why}), but only "
                f"{json.dumps(supported)} can be converted."
            )

    def error(self, name: str, wanted: str, found: Any) -> UserError:
        """The message for a value that is missing or of another kind."""
        said = "nothing" if found is None else json.dumps(found, default=str)[:80]
        return UserError(
            f"{self.path}: {self.section}{name} must be {wanted}, found {said}: the model cannot be built without it, "
            "so give the configuration that belongs to the weights."
        )


__all__ = ["Settings"]
