"""The five tasks on a map of tokens: where tokens are to be found, and in which steps (V2L Tokenizer, figure 4).

Knows maps of tokens, no images and no language model.
"""

import hashlib
from collections.abc import Sequence

import torch

from ..errors import UserError

HOLE_TASKS = ("inpainting", "outpainting")
WHOLE_TASKS = ("deblurring", "rotation", "shift")
TASKS = (*HOLE_TASKS, *WHOLE_TASKS)

Step = tuple[int, ...]


def check_task(task: str) -> None:
    """Refuses a task that there is not.

    Raises:
        UserError: With those that there are.
    """
    if task not in TASKS:
        raise UserError(f"There is no restoration task {task!r}: choose one of {', '.join(TASKS)}.")


def hole_of(task: str, height: int, width: int) -> torch.Tensor:
    """Where a task's tokens are to be found.

    Inpainting: the central h/2 x w/2; outpainting: the lower h/2 rows; the others: everywhere. For 16 x 16 these are
    the paper's 8 x 8 and 8 x 16.

    Args:
        task: One of `TASKS`.
        height: h, rows of the map, at least 2.
        width: w, columns of the map, at least 2.

    Returns:
        [h, w] bool, true where the token is unknown or wrong.

    Raises:
        UserError: If there is no such task, or the map is smaller.
    """
    check_task(task)
    if min(height, width) < 2:
        raise UserError(f"A map of {height} x {width} tokens is too small to be restored: take one of 2 x 2 or more.")
    hole = torch.full((height, width), task in WHOLE_TASKS)
    if task == "inpainting":
        top, left = height // 4, width // 4
        hole[top : top + height // 2, left : left + width // 2] = True
    elif task == "outpainting":
        hole[height - height // 2 :] = True
    return hole


def steps_of(task: str, height: int, width: int, step: int) -> list[Step]:
    """Cuts a task's positions into steps of neighbours in raster order.

    Args:
        task: One of `TASKS`.
        height: h, rows of the map.
        width: w, columns of the map.
        step: m, the most tokens of one step.

    Returns:
        The raster positions (row x w + column) of each step, in raster order. Where m does not divide a run of
        neighbours, its last step is shorter.

    Raises:
        UserError: As `hole_of`.
    """
    runs: list[list[int]] = []
    for position in hole_of(task, height, width).flatten().nonzero().flatten().tolist():
        if runs and runs[-1][-1] == position - 1:
            runs[-1].append(position)
        else:
            runs.append([position])
    return [tuple(run[begin : begin + step]) for run in runs for begin in range(0, len(run), step)]


def fill_with_nearest(tokens: torch.Tensor, hole: torch.Tensor) -> torch.Tensor:
    """Gives every position of a hole the token of the nearest known one, the first in raster order of several.

    Args:
        tokens: [B, h, w] int64; what stands in the hole is not looked at.
        hole: [h, w] bool, not true everywhere.

    Returns:
        [B, h, w] int64.
    """
    unknown, known = hole.nonzero(), (~hole).nonzero()
    distances = (unknown[:, None] - known[None]).square().sum(-1)  # [U, N], exact
    nearest = known[distances.argmin(dim=1)]
    filled = tokens.clone()
    filled[:, unknown[:, 0], unknown[:, 1]] = tokens[:, nearest[:, 0], nearest[:, 1]]
    return filled


def seeded(seed: int, *parts: str | bytes) -> torch.Generator:
    """A generator that depends on a seed and on what it is for, and on nothing that was drawn before.

    What is drawn for a picture is thus the same alone, in a batch, and in another order.

    Args:
        seed: The user's.
        *parts: What is drawn, and for which picture or map.
    """
    digest = hashlib.sha256(str(seed).encode())
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big") + content)
    return torch.Generator().manual_seed(int.from_bytes(digest.digest()[:7], "big"))


def map_bytes(tokens: torch.Tensor | Sequence[Sequence[int]]) -> bytes:
    """A map [h, w] as bytes, for `seeded`."""
    return torch.as_tensor(tokens, dtype=torch.int64).cpu().contiguous().numpy().astype("<i8").tobytes()
