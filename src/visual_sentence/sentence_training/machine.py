"""What this machine can do at most, as a plain matrix product shows it."""

import time

import torch

SIDE, SIDE_ON_GPU, ROUNDS = 1024, 8192, 4
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def product_flops(device: torch.device, precision: str) -> float:
    """Floating-point operations a second of a large matrix product, the best of a few.

    A utilisation measured against it says how much of what is attainable here a run attains; on a GPU it is some tenths
    lower than the number on the data sheet, so utilisations come out higher than against that.

    Args:
        device: Where.
        precision: "no", "bf16" or "fp16".
    """
    side = SIDE if device.type == "cpu" else SIDE_ON_GPU
    left, right = (torch.ones(side, side, dtype=DTYPES[precision], device=device) for _ in range(2))
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        (left @ right).sum().item()  # waits for the result
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
