"""`--set field=value` of the training scripts: what a line says of a configuration."""

import difflib
import json
from contextlib import suppress
from typing import Any

from ..errors import UserError


def parse_assignment(line: str, settings: dict[str, Any]) -> tuple[str, Any]:
    """A field and its new value out of `field=value`.

    Args:
        line: What the user wrote; the value as JSON, or a bare word.
        settings: All fields with their present values, which say what kind a value has to be of.

    Raises:
        UserError: If the field is unknown or the value is of another kind.
    """
    name, equals, text = line.partition("=")
    if not equals:
        raise UserError(f"--set {line}: write it as field=value.")
    if name not in settings:
        near = difflib.get_close_matches(name, settings, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(settings)}."
        raise UserError(f"--set {line}: the model's configuration has no field {name!r}: {hint}")
    value: Any = text
    if text.lower() in ("none", "true", "false"):
        value = {"none": None, "true": True, "false": False}[text.lower()]
    else:
        with suppress(ValueError):  # a bare word otherwise
            value = json.loads(text)
    present = settings[name]
    if isinstance(present, tuple):
        present = list(present)
    if isinstance(present, float) and type(value) is int:
        value = float(value)
    if present is not None and value is not None and type(value) is not type(present):
        kind = {int: "a whole number", bool: "true or false", list: "a list, as [1,2]"}.get(type(present))
        raise UserError(f"--set {line}: {name} is {kind or f'a {type(present).__name__}'}, e.g. {name}={present}.")
    return name, value


__all__ = ["parse_assignment"]
