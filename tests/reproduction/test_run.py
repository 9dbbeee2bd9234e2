"""What is asked for and cannot be is told in one line; what cannot be measured says what it needs."""

import json
import re
import socket

import pytest

from visual_sentence import UserError
from visual_sentence.reproduction import reproduce, table_names
from visual_sentence.reproduction import run as runs
from visual_sentence.reproduction.run import EXPERIMENTS
from visual_sentence.reproduction.tables import Column, Experiment, Ordering, Row, Table
from visual_sentence.reproduction.workspace import NotRunnableError
from visual_sentence_cli import main

TABLE = Table(
    "hand",
    "By hand",
    "A paper",
    (Column("x", "X", "x of ours"), Column("y", "Y", "y of ours")),
    (Row("a", "A", {"x": 1.5}, "GPT"), Row("b", "B"), Row("c", "C", {"y": 2.0})),
    (Ordering("a", "b", ("x",), "A above B"),),
)


@pytest.fixture
def measured(monkeypatch) -> list[str]:
    """Puts a table made by hand among the others; tells which rows were measured."""
    asked: list[str] = []

    def measure(context, row: str) -> dict:
        asked.append(row)
        if row == "b":
            raise NotRunnableError("needs b")
        return {"x": {"value": len(asked), "ci95": None, "n": 1}, **({"y": "needs y"} if row == "a" else {})}

    def settings(context, row: str) -> dict:
        return {"row": row, "llm": context.models.get("llm"), "queries": context.sizes.queries}

    monkeypatch.setitem(EXPERIMENTS, "hand", Experiment(TABLE, settings, measure))
    return asked


@pytest.fixture
def no_network(monkeypatch):
    """Fails the test where something wants to reach another machine."""

    def refuse(*args, **kwargs):
        pytest.fail("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs `visual-sentence reproduce` and gives status, output and error output."""
    # in a process of its own the command sets these before the libraries read them
    monkeypatch.setattr("transformers.utils.logging._tqdm_active", False)
    monkeypatch.setattr("datasets.utils._tqdm_active", False, raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["visual-sentence", "reproduce", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return call


MISTAKES = {
    "table": (
        {"name": "v2l-table7"},
        r"^There is no table 'v2l-table7': choose one of simlvm-table1, v2l-table1, .*\.$",
    ),
    "budget": ({"budget": "gpu"}, r"^There is no budget 'gpu': choose one of smoke, cpu, full\.$"),
    "row": ({"rows": ["spae", "vqgan"]}, r"^v2l-table3 has no row 'spae': its rows are vqgan, .*v2l-hybrid\.$"),
    "data": ({"data": ["photos=x"]}, r"^--data photos=x: there is no 'photos'; the tables read train-pictures, .*\.$"),
    "models": ({"models": ["llm"]}, r"^--models llm: write NAME=REFERENCE, such as llm=meta-llama/Llama-2-7b-hf\.$"),
    "model": ({"models": ["lmm=x"]}, r"^--models lmm=x: no table has a model 'lmm'; they know llm, .*vqgan-llm.*\.$"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_told_in_one_line_before_anything_is_written(kind, tmp_path):
    changed, message = MISTAKES[kind]
    with pytest.raises(UserError, match=message) as refused:
        reproduce(**{"name": "v2l-table3", "output": tmp_path / "out", "budget": "smoke", **changed})
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("v2l-table7",), "There is no table 'v2l-table7'"),
        (("v2l-table3", "--budget", "gpu"), "There is no budget 'gpu'"),
        (("v2l-table3", "--row", "spae"), "v2l-table3 has no row 'spae'"),
        (("v2l-table3", "--data", "nowhere"), "--data nowhere is no folder"),
        (("v2l-table3", "--models", "lmm=x"), "--models lmm=x: no table has a model 'lmm'"),
    ],
)
def test_the_command_ends_with_status_2_and_writes_nothing(command, tmp_path, arguments, said):
    status, out, err = command(*arguments, "--output", tmp_path / "out")
    assert (status, out, err.count("\n")) == (2, "", 1) and said in err
    assert not (tmp_path / "out").exists()


def test_what_reasons_ask_for_can_be_given(tmp_path, no_network):
    reports = [reproduce(name, tmp_path, "full") for name in table_names()]
    reasons = {cell["not_run"] for one in reports for row in one["rows"] for cell in row["cells"].values()}
    asked = {found for reason in reasons for found in re.findall(r"--models ([\w-]+)=", reason)}
    assert {"lvm-7b", "simlvm-8192", "delvm-1b", "vqgan", "v2l-hybrid", "spae-map", "lqae-llm"} <= asked
    for name in {*asked, "llm", "llm-13b", "llm-70b", "words", "encoder", "frozen", "seggpt"}:
        with pytest.raises(UserError, match="is no folder"):  # what is looked at next
            reproduce("v2l-table3", tmp_path, "full", [str(tmp_path / "none")], [f"{name}=somewhere"])


def test_each_cell_has_the_papers_number_and_ours_or_a_reason(measured, tmp_path):
    report = reproduce("hand", tmp_path, "smoke")
    a, b, c = report["rows"]
    assert a["cells"]["x"] == {"paper": 1.5, "ours": {"value": 1, "ci95": None, "n": 1}, "not_run": None}
    assert a["cells"]["y"] == {"paper": None, "ours": None, "not_run": "needs y"}
    assert b["cells"]["x"] == b["cells"]["y"] == {"paper": None, "ours": None, "not_run": "needs b"}
    assert c["cells"]["y"] == {"paper": 2.0, "ours": None, "not_run": "is not part of this row"}
    assert (a["key"], a["label"], a["paper_models"]) == ("a", "A", "GPT")


def test_the_report_says_what_it_was_made_with(measured, tmp_path):
    report = reproduce("hand", tmp_path, "smoke", models=["llm=some/model"])
    assert {"table": "hand", "source": "A paper", "budget": "smoke"}.items() <= report.items()
    assert report["commit"] and report["torch"] and report["threads"] >= 1
    assert report["rows"][0]["settings"] == {"budget": "smoke", "row": "a", "llm": "some/model", "queries": 2}
    assert json.loads((tmp_path / "hand.json").read_text()) == report


def test_a_finished_row_is_not_measured_again_but_one_that_could_not_be_is(measured, tmp_path):
    first, second = reproduce("hand", tmp_path, "smoke"), reproduce("hand", tmp_path, "smoke")
    assert measured == ["a", "b", "c", "b"]
    assert first["rows"] == second["rows"]


def test_another_model_or_budget_measures_anew(measured, tmp_path):
    reproduce("hand", tmp_path, "smoke", rows=["a"])
    reproduce("hand", tmp_path, "smoke", models=["llm=other"], rows=["a"])
    reproduce("hand", tmp_path, "cpu", rows=["a"])
    reproduce("hand", tmp_path, "smoke", rows=["a"])
    assert measured == ["a", "a", "a", "a"]  # the last one, since each row keeps its newest numbers only


def test_numbers_of_two_budgets_are_kept_beside_each_other(measured, tmp_path):
    for budget in ("smoke", "cpu", "smoke", "cpu"):
        reproduce("hand", tmp_path, budget, rows=["a"])
    assert measured == ["a", "a"]


def test_only_the_rows_that_are_asked_for_are_measured_in_the_tables_order(measured, tmp_path):
    report = reproduce("hand", tmp_path, "smoke", rows=["c", "a"])
    assert measured == [row["key"] for row in report["rows"]] == ["a", "c"]
    assert "A above B: X: not run" in (tmp_path / "hand.md").read_text()


def test_a_users_mistake_in_a_row_ends_the_run(measured, tmp_path, monkeypatch):
    def measure(context, row: str) -> dict:
        raise UserError("the model is broken")

    monkeypatch.setitem(EXPERIMENTS, "hand", EXPERIMENTS["hand"]._replace(measure=measure))
    with pytest.raises(UserError, match="the model is broken"):
        reproduce("hand", tmp_path, "smoke")


def test_every_piece_of_work_is_told(measured, tmp_path):
    told: list[str] = []
    reproduce("hand", tmp_path, "smoke", rows=["a"], say=told.append)
    assert told == ["measuring hand-smoke: a"]


def test_the_command_prints_the_table(measured, command, tmp_path):
    status, out, err = command("hand", "--output", tmp_path, "--budget", "smoke", "--row", "a")
    assert (status, err) == (0, "measuring hand-smoke: a\n")
    assert out.rstrip("\n") == (tmp_path / "hand.md").read_text().rstrip("\n") and "| A | 1.00 / 1.5 |" in out


def test_the_command_prints_json_where_that_is_asked_for(measured, command, tmp_path):
    status, out, _ = command("hand", "--output", tmp_path, "--budget", "smoke", "--row", "a", "--json")
    assert status == 0 and json.loads(out) == json.loads((tmp_path / "hand.json").read_text())


NEEDS = {
    "simlvm-table1": "needs ",
    "v2l-table1": "needs few-shot episodes (Mini-ImageNet): few-shot/episodes-dev.parquet in the folder of --data, or",
    "v2l-table2": "needs photographs to measure on",
    "v2l-table3": "needs a trained model: scripts/train_v",
    "v2l-table4": "needs a trained model: scripts/train_v2l.py --preset paper, then --models ",
    "v2l-table5": "needs photographs to train tokenizers on",
    "v2l-table6": "needs a trained model: scripts/train_v2l.py --preset paper, then --models ",
    "v2l-figure11": "needs a trained model: scripts/train_v2l.py --preset paper, then --models v2l=FOLDER",
}


def test_a_model_of_the_budgets_that_cannot_be_had_is_a_reason_and_one_of_the_users_a_mistake(tmp_path, no_network):
    report = reproduce("simlvm-table1", tmp_path, "full", rows=["seggpt"])
    assert report["rows"][0]["cells"]["shapes"]["not_run"].endswith("or use 'offline'")
    with pytest.raises(UserError, match=r"^nobody/seggpt is neither a local folder nor a model that the Hub gave"):
        reproduce("simlvm-table1", tmp_path, "full", models=["seggpt=nobody/seggpt"], rows=["seggpt"])


@pytest.mark.parametrize("name", table_names())
def test_a_full_run_without_models_and_data_says_for_each_cell_what_it_needs(name, tmp_path, no_network):
    report = reproduce(name, tmp_path, "full")
    assert [row["key"] for row in report["rows"]] == [row.key for row in EXPERIMENTS[name].table.rows]
    for row in report["rows"]:
        for cell in row["cells"].values():
            assert cell["ours"] is None
            known = ("needs PaLM-2", "BAAI/seggpt-vit-large is neither a local folder nor", NEEDS[name])
            assert cell["not_run"].startswith(known), cell["not_run"]
    assert not list(tmp_path.glob("made/*")) and not list(tmp_path.glob("cells/*/*"))


def test_the_package_names_its_tables():
    assert table_names() == list(runs.EXPERIMENTS)
