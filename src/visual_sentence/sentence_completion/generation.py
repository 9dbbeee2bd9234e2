"""Options of generation, checked before anything is read."""

from typing import Any

from ..errors import UserError

SAMPLING = ("temperature", "top_k", "top_p", "num_candidates")
GENERATION = ("do_sample", *SAMPLING, "average", "seed")


def check_generation(generation: dict[str, Any]) -> None:
    """Refuses options that are unknown, out of range, or would do nothing.

    Raises:
        UserError: In one line, which.
    """
    if unknown := sorted(set(generation) - set(GENERATION)):
        raise UserError(
            f"Completing knows no option {unknown[0]}, so it would change nothing: use {', '.join(GENERATION)}."
        )
    ranges = (
        ("temperature", lambda value: value > 0, "above 0"),
        ("top_k", lambda value: value >= 0, "0 (all) or more"),
        ("top_p", lambda value: 0 < value <= 1, "above 0 and at most 1"),
        ("num_candidates", lambda value: value >= 1, "1 or more"),
    )
    for name, is_good, wanted in ranges:
        if name in generation and not is_good(generation[name]):
            raise UserError(f"{name} is {generation[name]}, but has to be {wanted}.")
    idle = [name for name in SAMPLING if name in generation and generation[name] != {"top_k": 0}.get(name, 1)]
    if idle and not generation.get("do_sample"):
        raise UserError(
            f"{idle[0]} changes nothing while the likeliest token is taken: pass do_sample=True, or leave it out."
        )


def sampling(
    samples: int | None,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    average: bool = False,
) -> dict[str, Any]:
    """Options of a draw where one of its values is given; none where the likeliest token is taken.

    Args:
        samples: Candidates.
        temperature: As for `complete`.
        top_k: As for `complete`.
        top_p: As for `complete`.
        seed: Of the draw.
        average: Whether the answer is the mean of what the model expects, over all candidates.
    """
    given = {"num_candidates": samples, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    given = {name: value for name, value in given.items() if value is not None}
    more = {"average": True} if average else {}
    return {"do_sample": True, "seed": seed, **given, **more} if given else more


def mean_answer(candidates: int | None, temperature: float | None, seed: int) -> dict[str, Any]:
    """Options of an answer that is a mean; none for the model's own way.

    Args:
        candidates: Draws; 1 for the likeliest tokens.
        temperature: Of the draws; 0 for the likeliest tokens, drawn of what the model expects at each place.
        seed: Of the draws.

    Raises:
        UserError: If the temperature is of draws that there are not.
    """
    if temperature == 0 and candidates in (None, 1):
        return {"average": True}
    if temperature is not None and (temperature == 0 or candidates in (None, 1)):
        raise UserError(
            f"A temperature of {temperature:g} does not go with {candidates or 1} candidates: 0 is for one, all others "
            "are for draws, such as --candidates 4."
        )
    if candidates is None:
        return {}
    return sampling(candidates, temperature, None, None, seed, average=True) if candidates > 1 else {"do_sample": False}
