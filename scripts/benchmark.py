"""Ours against the plain way, in one process, on the same work.

    python scripts/benchmark.py few-shot --json
    python scripts/benchmark.py codebook-expansion --dtype bfloat16 --threads 2 --json
    python scripts/benchmark.py codebook-embedding --encoder offline --json
    python scripts/benchmark.py quantizer --json
    python scripts/benchmark.py v2l-forward --json
    python scripts/benchmark.py restoration-deblurring --json
    python scripts/benchmark.py restoration-inpainting --json
    python scripts/benchmark.py completion-prefix --model random --json
    python scripts/benchmark.py completion-draws --json

Prints one object: {name, setting, ours_s, reference_s, ratio, same_result}; a ratio above 1 means ours is faster.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
import typer

from benchmarks import (
    codebook_embedding,
    codebook_expansion,
    completion_draws,
    completion_prefix,
    few_shot,
    quantizer,
    restoration,
    v2l_forward,
)
from benchmarks.common import Measurement
from visual_sentence import UserError, load_language_model
from visual_sentence.codebook import vocabulary_entries
from visual_sentence.encoders import load_joint_encoder
from visual_sentence.language import load_text_tokenizer


def run_codebook_expansion(llm: str, encoder: str, dtype: str) -> Measurement:
    """Vocabulary expansion: batches behind one shared prefix against one `generate` call per entry."""
    loaded = load_language_model(llm, dtype=dtype)
    return codebook_expansion.run(loaded.model, loaded.tokenizer, setting={"language_model": llm})


def run_codebook_embedding(llm: str, encoder: str, dtype: str) -> Measurement:
    """Text embedding: sorted batches cut to their longest member against one text at a time."""
    texts = [entry.text for entry in vocabulary_entries(load_text_tokenizer(llm))][:4000]
    return codebook_embedding.run(load_joint_encoder(encoder), texts)


def run_few_shot(llm: str, encoder: str, dtype: str) -> Measurement:
    """A 5-way 3-shot episode: one cache for the examples against the whole prompt for every query and label."""
    loaded = load_language_model(llm, dtype=dtype)
    return few_shot.run(loaded.model, loaded.tokenizer, setting={"language_model": llm})


def run_quantizer(llm: str, encoder: str, dtype: str) -> Measurement:
    """The exact search among 32,000 x 768 entries for 8 images against the bare matrix product."""
    require_float32(dtype)
    return quantizer.run()


def run_v2l_forward(llm: str, encoder: str, dtype: str) -> Measurement:
    """Encode + decode of 8 images of 128 px by the full-size V2L model against its layers written out plainly."""
    require_float32(dtype)
    return v2l_forward.run()


def run_restoration(llm: str, encoder: str, dtype: str, *, task: str, mode: str = "leak-free") -> Measurement:
    """Restoration of maps of 16 x 16 tokens: batches behind a shared prefix against one `generate` call per step."""
    loaded = load_language_model(llm, dtype=dtype)
    images = 8 if mode == "leak-free" else 2  # in mode "paper" an image takes nearly as long as the plain way
    return restoration.run(loaded, task, mode=mode, images=images, setting={"language_model": llm})


def run_completion_prefix(llm: str, encoder: str, dtype: str, *, model: str) -> Measurement:
    """16 queries with the same 3 pairs: the pairs read once and one batch against one `complete` per query."""
    require_float32(dtype)
    return completion_prefix.run(completion_prefix.load(model))


def run_completion_draws(llm: str, encoder: str, dtype: str, *, model: str) -> Measurement:
    """4 draws for each of 4 queries with the same 3 pairs: what they share read once against a row for each draw."""
    require_float32(dtype)
    return completion_draws.run(completion_prefix.load(model))


def require_float32(dtype: str) -> None:
    """Refuses another dtype where the comparison is of float32 only."""
    if dtype != "float32":
        raise UserError(f"--dtype {dtype}: this benchmark compares both ways in float32: leave the option out.")


BENCHMARKS: dict[str, Callable[..., Measurement]] = {
    "codebook-expansion": run_codebook_expansion,
    "codebook-embedding": run_codebook_embedding,
    "completion-draws": run_completion_draws,
    "completion-prefix": run_completion_prefix,
    "few-shot": run_few_shot,
    "quantizer": run_quantizer,
    "restoration-deblurring": partial(run_restoration, task="deblurring"),
    "restoration-deblurring-paper": partial(run_restoration, task="deblurring", mode="paper"),
    "restoration-inpainting": partial(run_restoration, task="inpainting"),
    "restoration-inpainting-paper": partial(run_restoration, task="inpainting", mode="paper"),
    "v2l-forward": run_v2l_forward,
}


def main(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(BENCHMARKS)}.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    llm: Annotated[str, typer.Option(help="Language model: 'offline', a folder or a Hub id.")] = "offline",
    encoder: Annotated[
        str, typer.Option(help="Joint encoder: 'offline', a folder, a Hub id, open_clip:...")
    ] = "offline",
    dtype: Annotated[str, typer.Option(help="Of the language model.")] = "float32",
    model: Annotated[
        str, typer.Option(help="Of completion-prefix and -draws: a SimLVM by folder or Hub id, 'default', or 'random'.")
    ] = "default",
    threads: Annotated[int, typer.Option(min=1, help="Threads that torch may use.")] = 2,
) -> None:
    """Run one benchmark."""
    if name not in BENCHMARKS:
        raise typer.BadParameter(f"there is no benchmark {name!r}: choose one of {', '.join(BENCHMARKS)}")
    torch.set_num_threads(threads)
    of_its_own = {"model": model} if name.startswith("completion-") else {}
    try:
        result = BENCHMARKS[name](llm, encoder, dtype, **of_its_own).as_dict()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        typer.echo(
            f"{name}: {result['ratio']:.1f} times as fast as the plain way ({result['ours_s']:.2f} s against "
            f"{result['reference_s']:.2f} s), {'the same' if result['same_result'] else 'ANOTHER'} result"
        )


if __name__ == "__main__":
    typer.run(main)
