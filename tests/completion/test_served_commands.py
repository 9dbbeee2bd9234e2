"""The commands with `--llm http://...`: the same answers as with the model loaded here, and one line where it fails."""

import json

import pytest
from datasets import Dataset, Features, List, Value, disable_progress_bars, enable_progress_bars
from datasets import Image as ImageFeature
from transformers import AutoModelForCausalLM, AutoTokenizer

from visual_sentence_cli import main


@pytest.fixture
def served(start_server, llm_folder, no_tokens):
    """The model of `llm_folder`, served."""
    return start_server(
        AutoModelForCausalLM.from_pretrained(llm_folder).eval(), AutoTokenizer.from_pretrained(llm_folder)
    )


@pytest.fixture
def run(monkeypatch, capsys, v2l_folder):
    """Runs `visual-sentence` with a model and gives its status, standard output and standard error."""
    # in a process of its own the command sees to it before the libraries look
    monkeypatch.setattr("transformers.utils.logging._tqdm_active", False)
    disable_progress_bars()

    def call(llm: object, *arguments: object) -> tuple[int, str, str]:
        models = ["--model", str(v2l_folder), "--device", "cpu", "--llm", str(llm)]
        monkeypatch.setattr("sys.argv", ["visual-sentence", *map(str, arguments), *models])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main()
        return exit_info.value.code or 0, *capsys.readouterr()

    yield call
    enable_progress_bars()


@pytest.fixture
def picture(pictures, tmp_path):
    pictures[3].save(tmp_path / "asked.png")
    return tmp_path / "asked.png"


@pytest.fixture
def episodes(pictures, tmp_path) -> str:
    """Two episodes of two ways and one shot."""
    features = Features(
        {
            **{name: Value("int64") for name in ("way", "shot", "query_label")},
            "class_names": List(Value("string")),
            "support_images": List(ImageFeature()),
            "support_labels": List(Value("int64")),
            "query_image": ImageFeature(),
        }
    )
    rows = [
        {
            "way": 2,
            "shot": 1,
            "class_names": ["goldfish", "dog"],
            "support_images": pictures[:2],
            "support_labels": [0, 1],
            "query_image": pictures[2 + label],
            "query_label": label,
        }
        for label in (0, 1)
    ]
    Dataset.from_list(rows, features=features).to_parquet(tmp_path / "episodes.parquet")
    return str(tmp_path / "episodes.parquet")


@pytest.mark.parametrize("scoring", ["domain-calibrated", "exact-match"])
def test_classify(run, served, llm_folder, class_folders, picture, scoring):
    arguments = ("classify", picture, "--support", class_folders, "--json", "--scoring", scoring)
    status, out, err = run(llm_folder, *arguments, "--dtype", "float32")
    assert status == 0, err
    expected = json.loads(out)["images"][0]["answers"]
    status, out, err = run(f"{served.root}/v1", *arguments)
    assert status == 0, err
    found = json.loads(out)["images"][0]["answers"]
    assert {row["label"]: row["score"] for row in found} == pytest.approx(
        {row["label"]: row["score"] for row in expected}, abs=1e-4
    )
    assert any(path == "/v1/completions" for path, _, _ in served.seen)


def test_evaluate_few_shot(run, served, llm_folder, episodes):
    arguments = ("evaluate", "few-shot", "--data", episodes, "--words", 2, "--json", "--scoring", "likelihood")
    status, out, err = run(llm_folder, *arguments, "--dtype", "float32")
    assert status == 0, err
    expected = json.loads(out)
    status, out, err = run(f"{served.root}/v1#tiny", *arguments)
    assert status == 0, err
    found = json.loads(out)
    assert found["llm"] == f"{served.root}/v1#tiny"
    assert (expected["setting"]["dtype"], found["setting"]["dtype"]) == ("float32", None)
    for row, other in zip(found["results"], expected["results"], strict=True):
        assert row.pop("seconds_per_episode") > 0 < other.pop("seconds_per_episode")
        assert row == other


@pytest.mark.parametrize(
    ("scoring", "kept_back", "message"),
    [
        ("trie", "given", "Scoring 'trie' needs the logits of every step"),
        ("likelihood", "null", "Scoring 'likelihood' needs them, 'exact-match' and 'prefix-match' do not."),
    ],
)
def test_a_mode_that_cannot_be_had_is_one_line(
    run, served, class_folders, picture, episodes, scoring, kept_back, message
):
    served.logprobs = kept_back
    for arguments in (
        ("classify", picture, "--support", class_folders),
        ("evaluate", "few-shot", "--data", episodes, "--words", 2),
    ):
        status, out, err = run(f"{served.root}/v1", *arguments, "--scoring", scoring)
        assert (status, out, err.count("\n")) == (2, "", 1), err
        assert message in err


def test_a_server_that_refuses_is_one_line(run, served, class_folders, picture):
    served.faults = ["400"] * 100
    arguments = ("classify", picture, "--support", class_folders, "--scoring", "exact-match")
    status, out, err = run(f"{served.root}/v1", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert f"error: {served.root}/v1 answered with status 400 (out of order None): change the request" in err
    status, out, err = run(f"{served.root}/v1", *arguments, "--dtype", "float32")
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert "leave the dtype 'float32' out" in err
