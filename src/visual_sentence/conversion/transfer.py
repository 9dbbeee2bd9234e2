"""Carrying tensors over: each of ours is filled, each of theirs is used or named, or nothing happens at all."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from ..errors import UserError
from .tables import Rule

PLACEHOLDERS = {
    "half": "encoder|decoder",
    "level": r"\d+",
    "mirrored": r"\d+",
    "block": r"\d+",
    "end": "weight|bias",
    "part": r"to_q|to_k|to_v|to_out\.0",
    "rest": ".+",
}
LEVELS = r"decoder\.net\.up_blocks\.(\d+)\."


@dataclass(frozen=True)
class Transfer:
    """What became of every tensor.

    Args:
        used: Our tensor's name to theirs.
        left_out: Their tensor's name to the reason.
    """

    used: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def transfer(
    tensors: Mapping[str, torch.Tensor],
    model: nn.Module,
    rules: Sequence[Rule],
    left_out: Mapping[str, str],
    source: str,
    elsewhere: Sequence[str] = (),
) -> Transfer:
    """Fills a model with a source's tensors; the model is untouched unless everything fits.

    Args:
        tensors: The source's.
        model: Ours, on the CPU.
        rules: The tables that apply; where several match, the first whose source tensor exists.
        left_out: What the source's names may begin with that has no place in the model, and why.
        source: How to call the source in messages.
        elsewhere: What our names begin with that is filled from elsewhere.

    Raises:
        UserError: If a tensor is missing, of another shape, not finite, or neither used nor to be left out.
    """
    targets = {name: ours for name, ours in model.state_dict().items() if not name.startswith(tuple(elsewhere))}
    levels = 1 + max((int(found.group(1)) for name in targets if (found := re.match(LEVELS, name))), default=0)
    origins = {name: _origins(name, rules, levels) for name in targets}
    chosen = {
        name: (theirs, rule)
        for name, candidates in origins.items()
        for theirs, rule in [one for one in candidates if one[0] in tensors][:1]
    }
    missing = [candidates[0][0] for name, candidates in origins.items() if name not in chosen]
    if missing:
        raise UserError(
            f"{source} lacks {_count(missing)} that its configuration asks for, the first is {missing[0]}: the file is "
            "incomplete, of another kind, or belongs to another configuration."
        )
    filled = {
        name: _fitting(tensors[theirs], f"{source}: {theirs}", rule, targets[name])
        for name, (theirs, rule) in chosen.items()
    }
    used = {name: theirs for name, (theirs, _) in chosen.items()}
    spare = [name for name in tensors if name not in set(used.values())]
    reasons = {
        name: why for name in spare for why in [why for start, why in left_out.items() if name.startswith(start)][:1]
    }
    unexpected = [name for name in spare if name not in reasons]
    if unexpected:
        raise UserError(
            f"{source} holds {_count(unexpected)} that have no place in the model, the first is {unexpected[0]}: it is "
            "of another kind or belongs to another configuration, and without them it would give other results."
        )
    for name, tensor in filled.items():
        targets[name].copy_(tensor)
    return Transfer(used, reasons)


def _origins(ours: str, rules: Sequence[Rule], levels: int) -> list[tuple[str, Rule]]:
    """The names that a tensor of ours may have at the source, each with the rule that says so."""
    found = [(theirs, rule) for rule in rules if (theirs := translate(ours, rule, levels)) is not None]
    if not found:
        raise LookupError(f"No table says what {ours} is made of.")  # a gap in the tables, not a user's mistake
    return found


def translate(ours: str, rule: Rule, levels: int) -> str | None:
    """Their name of a tensor of ours; None where the rule is about others.

    Args:
        ours: Our tensor's name.
        rule: A line of a table.
        levels: How many levels the decoder has.
    """
    pattern = re.sub(r"\\{(\w+)\\}", lambda found: f"(?P<{found[1]}>{PLACEHOLDERS[found[1]]})", re.escape(rule.ours))
    match = re.fullmatch(pattern, ours)
    if match is None:
        return None
    values = match.groupdict()
    if "level" in values:
        values["mirrored"] = str(levels - 1 - int(values["level"]))
    return rule.theirs.format(**values)


def _fitting(theirs: torch.Tensor, name: str, rule: Rule, ours: torch.Tensor) -> torch.Tensor:
    """Their tensor, which messages call by that name, in our shape.

    Raises:
        UserError: If the shape is another, or a value is not finite.
    """
    taken = rule.take(theirs)
    if taken.shape != ours.shape:
        became = "" if taken.shape == theirs.shape else f", which makes {tuple(taken.shape)}"
        raise UserError(
            f"{name} has shape {tuple(theirs.shape)}{became}, but the configuration asks for {tuple(ours.shape)}: the "
            "configuration belongs to another file, or the file is damaged."
        )
    if not torch.isfinite(taken).all():
        raise UserError(f"{name} holds values that are not finite, so every image would be lost: fetch the file again.")
    return taken


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} tensor{'s' if len(names) != 1 else ''}"


__all__ = ["Transfer", "transfer", "translate"]
