"""The benchmarks print what they promise, and both ways give the same result."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

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
    benchmark.main(name, as_json=True, llm="offline", encoder="offline", dtype="float32", threads=1)
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == ["name", "setting", "ours_s", "reference_s", "ratio", "same_result"]
    assert printed["name"] == name and printed["same_result"] is True
    assert printed["ratio"] == pytest.approx(printed["reference_s"] / printed["ours_s"])
