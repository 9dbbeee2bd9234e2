"""What is asked for and cannot be is told in one line; what cannot be measured says what it needs."""

import json
import pickle
import re
import socket

import pytest

from visual_sentence import UserError
from visual_sentence.errors import UnreachableError
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


def test_only_the_rows_that_are_asked_for_are_measured_and_all_are_in_the_report(measured, tmp_path):
    report = reproduce("hand", tmp_path, "smoke", rows=["c", "a"])
    assert measured == ["a", "c"] and [row["key"] for row in report["rows"]] == ["a", "b", "c"]
    assert {cell["not_run"] for cell in report["rows"][1]["cells"].values()} == {"not measured yet"}
    text = (tmp_path / "hand.md").read_text()
    assert "A above B: X: not run" in text and "- B: not measured yet." in text


def test_rows_on_file_stay_in_the_report_of_another_row(measured, tmp_path):
    whole = reproduce("hand", tmp_path, "smoke")
    again = reproduce("hand", tmp_path, "smoke", rows=["c"])
    assert measured == ["a", "b", "c"]
    assert again["rows"][0] == whole["rows"][0] and again["rows"][2] == whole["rows"][2]
    assert json.loads((tmp_path / "hand.json").read_text())["rows"] == again["rows"]
    assert "| A | 1.00 / 1.5 |" in (tmp_path / "hand.md").read_text()


def test_rows_on_file_of_other_settings_count_as_not_measured(measured, tmp_path):
    reproduce("hand", tmp_path, "smoke")
    report = reproduce("hand", tmp_path, "smoke", models=["llm=other"], rows=["c"])
    assert report["rows"][0]["cells"]["x"] == {"paper": 1.5, "ours": None, "not_run": "not measured yet"}


@pytest.fixture
def failing(measured, monkeypatch):
    """Has the row b of the table made by hand fail."""

    def fail(error: BaseException) -> None:
        experiment = EXPERIMENTS["hand"]

        def measure(context, row: str) -> dict:
            if row == "b":
                raise error
            return experiment.measure(context, row)

        monkeypatch.setitem(EXPERIMENTS, "hand", experiment._replace(measure=measure))

    return fail


FAILURES = {
    "mistake": (UserError("the model is broken: give another"), "the model is broken: give another"),
    "failure": (RuntimeError("no\nmemory"), "RuntimeError: no memory"),
    "silent": (AssertionError(), "AssertionError"),
    "long": (ValueError("x" * 999), f"ValueError: {'x' * 288} ..."),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_row_that_fails_costs_no_other_row(failing, tmp_path, kind):
    error, said = FAILURES[kind]
    failing(error)
    told: list[Exception] = []
    report = reproduce("hand", tmp_path, "smoke", failed=told.append)
    a, b, c = report["rows"]
    assert told == [error] and b["failed"] == said
    assert all(cell["ours"] is None and cell["not_run"] == f"failed: {said}" for cell in b["cells"].values())
    assert "failed" not in a and a["cells"]["x"]["ours"]["value"] == 1 and c["cells"]["x"]["ours"]["value"] == 2
    assert json.loads((tmp_path / "hand.json").read_text()) == report
    text = (tmp_path / "hand.md").read_text()
    assert "| B | failed / - | failed / - | - |" in text and f"\n- B: {said}\n" in text
    assert text.count(said) == 1


def test_a_row_that_failed_is_measured_by_the_next_run(failing, measured, tmp_path, monkeypatch):
    failing(RuntimeError("no memory"))
    reproduce("hand", tmp_path, "smoke")
    monkeypatch.setitem(
        EXPERIMENTS, "hand", EXPERIMENTS["hand"]._replace(measure=lambda *_: {"x": {"value": 9, "ci95": None, "n": 1}})
    )
    report = reproduce("hand", tmp_path, "smoke")
    assert [row["cells"]["x"]["ours"]["value"] for row in report["rows"]] == [1, 9, 2]


def test_an_interruption_ends_the_run(failing, measured, tmp_path):
    failing(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        reproduce("hand", tmp_path, "smoke")
    assert measured == ["a"] and not (tmp_path / "hand.json").exists()


def test_the_command_names_the_rows_that_failed_and_ends_with_status_1(failing, command, tmp_path, monkeypatch):
    monkeypatch.delenv("VISUAL_SENTENCE_TRACEBACK", raising=False)
    failing(RuntimeError("no memory"))
    status, out, err = command("hand", "--output", tmp_path, "--budget", "smoke")
    assert status == 1 and out.rstrip("\n") == (tmp_path / "hand.md").read_text().rstrip("\n")
    assert err.splitlines()[-1] == f"failed: b; {tmp_path / 'hand'}.md says why, and has the other rows"
    assert [line for line in err.splitlines() if not line.startswith("measuring ")] == err.splitlines()[-1:]


def test_the_command_shows_where_a_row_failed_if_asked_to(failing, command, tmp_path, monkeypatch):
    monkeypatch.setenv("VISUAL_SENTENCE_TRACEBACK", "1")
    failing(RuntimeError("no memory"))
    status, _, err = command("hand", "--output", tmp_path, "--budget", "smoke", "--json")
    assert status == 1 and "Traceback" in err and "test_run.py" in err


def test_a_device_that_cannot_be_used_is_told_in_one_line_before_anything_is_written(measured, command, tmp_path):
    status, out, err = command("hand", "--output", tmp_path / "out", "--device", "gpu9")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert re.match(r"error: The device 'gpu9' cannot be used here \(.*\): try --device cpu\.\n", err)
    assert measured == [] and not (tmp_path / "out").exists()


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
    "v2l-table1": "needs episodes of Mini-ImageNet: mini-imagenet/episodes.parquet in the folder of --data, or",
    "v2l-table2": "needs ImageNet-1K's validation set: imagenet/val in the folder of --data, or",
    "v2l-table3": "needs a trained model: scripts/train_v",
    "v2l-table4": "needs a trained model: scripts/train_v2l.py --preset paper, then --models ",
    "v2l-table5": "needs ImageNet-1K's training set: imagenet/train in the folder of --data, or",
    "v2l-table6": "needs a trained model: scripts/train_v2l.py --preset paper, then --models ",
    "v2l-figure11": "needs a trained model: scripts/train_v2l.py --preset paper, then --models v2l=FOLDER",
}


def test_a_model_of_the_budgets_that_cannot_be_had_is_a_reason_and_one_of_the_users_a_mistake(tmp_path, no_network):
    report = reproduce("simlvm-table1", tmp_path, "full", rows=["seggpt"])
    assert "failed" not in report["rows"][-1]
    assert report["rows"][-1]["cells"]["shapes"]["not_run"].endswith("or use 'offline'")
    report = reproduce("simlvm-table1", tmp_path, "full", models=["seggpt=nobody/seggpt"], rows=["seggpt"])
    assert report["rows"][-1]["failed"].startswith("nobody/seggpt is neither a local folder nor a model that the Hub")


@pytest.mark.parametrize(
    ("error", "is_reason"),
    [
        (UnreachableError("BAAI/seggpt-vit-large", "BAAI/seggpt-vit-large is not there."), True),
        (UnreachableError("BAAI/seggpt", "BAAI/seggpt-vit-large is neither here nor there."), False),
        (UserError("BAAI/seggpt-vit-large is neither here nor there."), False),
    ],
)
def test_whose_model_could_not_be_reached_is_known_by_the_error_and_not_by_its_words(
    error, is_reason, failing, tmp_path
):
    failing(error)
    row = reproduce("hand", tmp_path, "full", rows=["b"])["rows"][1]
    assert ("failed" in row) is not is_reason
    assert row["cells"]["x"]["not_run"] == (str(error).removesuffix(".") if is_reason else f"failed: {error}")


def test_an_error_of_a_model_that_is_not_there_comes_whole_out_of_another_process():
    error = pickle.loads(pickle.dumps(UnreachableError("some/model", "some/model is\nnot there.")))
    assert isinstance(error, UserError) and (error.reference, str(error)) == ("some/model", "some/model is not there.")


@pytest.mark.parametrize("name", table_names())
def test_a_full_run_without_models_and_data_says_for_each_cell_what_it_needs(name, tmp_path, no_network):
    report = reproduce(name, tmp_path, "full")
    assert [row["key"] for row in report["rows"]] == [row.key for row in EXPERIMENTS[name].table.rows]
    for row in report["rows"]:
        for cell in row["cells"].values():
            assert cell["ours"] is None
            known = ("needs PaLM-2", "BAAI/seggpt-vit-large is neither a local folder nor", NEEDS[name])
            assert cell["not_run"].startswith(known), cell["not_run"]
    for row in report["rows"]:
        for column in EXPERIMENTS[name].table.columns:
            said = row["cells"][column.key]["not_run"]
            asked = re.findall(r"--data ([\w-]+)=REFERENCE", said)
            assert asked == ([] if said.startswith("needs PaLM-2") else list(column.data)), said
    assert not list(tmp_path.glob("made/*")) and not list(tmp_path.glob("cells/*/*"))


def test_the_package_names_its_tables():
    assert table_names() == list(runs.EXPERIMENTS)
