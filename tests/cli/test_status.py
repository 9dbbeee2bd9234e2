"""How the command ends: 2 for what the user can mend, 1 for failures, 130 if interrupted; and quietly in a pipe."""

import os
import subprocess
import sys

import pytest

from visual_sentence import UserError
from visual_sentence.words import WordFinder
from visual_sentence_cli.main import TRACEBACK_VARIABLE


@pytest.fixture
def describe(run, monkeypatch, good_files):
    """Runs `describe` with a model whose loading ends in an exception."""
    monkeypatch.delenv(TRACEBACK_VARIABLE, raising=False)

    def call(error: BaseException):
        def load(*args, **kwargs):
            raise error

        monkeypatch.setattr(WordFinder, "load", load)
        return run("describe", good_files["plain"], "--json")

    return call


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("a bug"), "ValueError: a bug: if"),
        (KeyError("name"), "KeyError: 'name': if"),
        (AssertionError(), "AssertionError: if"),
        (OSError(28, "No space left on device", "/tmp/x"), "No space left on device: '/tmp/x': if"),
        (RuntimeError("first\n\n  second   line"), "RuntimeError: first second line: if"),
    ],
)
def test_failures_are_one_line_that_says_how_to_report_them(error, said, describe):
    outcome = describe(error)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("failure: ") and outcome.err.count("\n") == 1 and said in outcome.err
    assert f"{TRACEBACK_VARIABLE}=1" in outcome.err and "`visual-sentence info`" in outcome.err


def test_long_failures_are_cut(describe):
    outcome = describe(RuntimeError("long " * 1000))
    assert outcome.status == 1 and " ...: if nothing" in outcome.err and len(outcome.err) < 600


def test_the_traceback_is_shown_on_demand(describe, monkeypatch):
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    outcome = describe(ValueError("a bug"))
    assert outcome.status == 1
    *trace, line = outcome.err.splitlines()
    assert trace[0].startswith("Traceback") and trace[-1] == "ValueError: a bug" and line.startswith("failure: ")
    assert "Traceback" not in describe(UserError("Found x: give y.")).err
    for off in ("", "0"):
        monkeypatch.setenv(TRACEBACK_VARIABLE, off)
        assert "Traceback" not in describe(ValueError("a bug")).err


def test_what_the_user_can_mend(describe):
    outcome = describe(UserError("Found x: give y."))
    assert (outcome.status, outcome.out, outcome.err) == (2, "", "error: Found x: give y.\n")


def test_interrupted(describe):
    outcome = describe(KeyboardInterrupt())
    assert (outcome.status, outcome.out, outcome.err) == (130, "", "stopped\n")


def test_a_library_that_cannot_be_imported(run_apart, good_files):
    broken = "import sys; sys.modules['torch'] = None"
    outcome = run_apart("describe", good_files["plain"], first=broken)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("failure: ModuleNotFoundError: import of torch halted")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["convert", "--help"]])
def test_a_reader_that_has_gone_is_no_failure_to_tell_of(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    script = "from visual_sentence_cli import main; main()"
    command = [sys.executable, "-c", script, *arguments]
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, "")
