"""The benchmarks print what they promise, and both ways give the same result."""

import functools
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from visual_sentence import LanguageModel, V2LConfig
from visual_sentence.sentence_completion.completer import SentenceCompleter

from ..sentence_completion.conftest import make_simlvm, make_simlvm_processor  # noqa: F401  (fixtures)

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def benchmark(monkeypatch):
    """scripts/benchmark.py as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("benchmark_script", SCRIPTS / "benchmark.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.offline_stack
@pytest.mark.parametrize("name", ["codebook-expansion", "codebook-embedding", "few-shot"])
def test_both_ways_agree_on_the_real_models(name, benchmark, monkeypatch, capsys, offline_models):
    # small work: the ratio is the benchmark's business, the equality is ours
    small = {
        "codebook_expansion": {"entries": 64, "reference_entries": 4, "rounds": 1},
        "codebook_embedding": {"reference_texts": 20, "rounds": 1},
        "few_shot": {"way": 3, "shot": 1, "queries": 2},
    }
    for module, options in small.items():
        original = getattr(benchmark, module).run
        shrunk = lambda *args, _run=original, _options=options, **kwargs: _run(*args, **{**kwargs, **_options})  # noqa: E731
        monkeypatch.setattr(getattr(benchmark, module), "run", shrunk)
    check(benchmark, name, capsys)


def test_the_image_models_agree_with_their_layers_written_out(benchmark, monkeypatch, capsys):
    sizes = {"block_out_channels": [8, 16, 16], "norm_num_groups": 4, "latent_channels": 8, "local_embedding_dim": 12}
    config = V2LConfig(encoder_type=None, image_size=32, local_codebook_size=50, **sizes)
    small = {
        "quantizer": functools.partial(benchmark.quantizer.run, 500, 24, 2, 4, rounds=1),
        "v2l_forward": functools.partial(benchmark.v2l_forward.run, config, 2, rounds=1),
    }
    for name, run in small.items():
        monkeypatch.setattr(getattr(benchmark, name), "run", run)
        check(benchmark, name.replace("_", "-"), capsys)


@pytest.mark.parametrize("task", ["deblurring", "inpainting"])
def test_both_ways_of_restoring_agree(task, benchmark, monkeypatch, capsys, llama, bpe_tokenizer):
    run = benchmark.restoration.run
    small = lambda *args, **kwargs: run(*args, **{**kwargs, "images": 2, "side": 4})  # noqa: E731
    monkeypatch.setattr(benchmark.restoration, "run", small)
    tiny = LanguageModel(llama, bpe_tokenizer, "tiny")
    monkeypatch.setattr(benchmark, "load_language_model", lambda llm, dtype: tiny)
    for mode in ("", "-paper"):
        check(benchmark, f"restoration-{task}{mode}", capsys)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("completion-prefix", {"pairs": 2, "queries": 3}), ("completion-draws", {"pairs": 2, "queries": 2, "draws": 3})],
)
def test_sentences_that_share_what_stands_before_agree_with_each_alone(
    name,
    sizes,
    benchmark,
    monkeypatch,
    capsys,
    make_simlvm,  # noqa: F811
    make_simlvm_processor,  # noqa: F811
):
    tiny, measured = SentenceCompleter(make_simlvm(), make_simlvm_processor(), "tiny"), name.replace("-", "_")
    run = functools.partial(getattr(benchmark, measured).run, rounds=1, **sizes)
    monkeypatch.setattr(benchmark.completion_prefix, "load", lambda model: tiny)
    monkeypatch.setattr(getattr(benchmark, measured), "run", run)
    check(benchmark, name, capsys)


def check(benchmark, name, capsys) -> None:
    """Runs one benchmark and looks at what it printed."""
    benchmark.main(name, as_json=True, llm="offline", encoder="offline", dtype="float32", threads=1)
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == ["name", "setting", "ours_s", "reference_s", "ratio", "same_result"]
    assert printed["name"] == name and printed["same_result"] is True
    assert printed["ratio"] == pytest.approx(printed["reference_s"] / printed["ours_s"])
