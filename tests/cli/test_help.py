"""The help on one page, --json everywhere, --version, shell completion; and that none of it waits for torch."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import pytest
import typer
from typer.testing import CliRunner

from visual_sentence_cli.help_page import OnePage
from visual_sentence_cli.main import COMMANDS, app

# Runs before the command, and ends it with another status where it imported what takes seconds.
LIGHT = """
import atexit, os, sys
def check():
    heavy = {"torch", "transformers", "datasets", "open_clip", "numpy", "PIL", "visual_sentence"} & set(sys.modules)
    if heavy:
        print(f"loaded {heavy}", file=sys.stderr, flush=True)
        os._exit(99)
atexit.register(check)
"""
SHELL = "_VISUAL_SENTENCE_COMPLETE"


def complete(run_apart, line: str) -> list[str]:
    """What bash is told to offer at the end of a line, by the protocol of the script that --show-completion prints."""
    place = str(len(line.split(" ")) - 1)
    outcome = run_apart(first=LIGHT, **{SHELL: "complete_bash", "COMP_WORDS": line, "COMP_CWORD": place})
    assert (outcome.status, outcome.err) == (0, "")
    return outcome.out.split()


def all_commands(command, names: tuple[str, ...] = ()):
    """(names, command) of everything that runs."""
    if not hasattr(command, "commands"):
        yield " ".join(names), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from all_commands(inner, (*names, name))


RUNNABLE = dict(all_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("command", RUNNABLE)
def test_every_command_prints_json_on_demand(command):
    options = [name for parameter in RUNNABLE[command].params for name in parameter.opts]
    assert "--json" in options


def test_there_are_commands_in_every_group():
    assert {"describe", "evaluate few-shot", "codebook build", "offline install", "info"} <= set(RUNNABLE)
    assert {name.split()[0] for name in RUNNABLE} == {name for group in COMMANDS.values() for name in group}


def test_the_help_fits_a_screen(run_apart):
    outcome = run_apart("--help", first=LIGHT, COLUMNS="80", LINES="40")
    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert len(lines) <= 39 and max(map(len, lines)) <= 80  # one more is the prompt's
    for group, commands in COMMANDS.items():
        begin = lines.index(f"{group}:") + 1
        shown = dict(line.strip().split(maxsplit=1) for line in lines[begin : begin + len(commands)])
        assert shown == {name: line for name, (_, line) in commands.items()}
    for told in ("--version", "--install-completion", "--json", "VISUAL_SENTENCE_TRACEBACK=1", "130 interrupted"):
        assert told in outcome.out


def test_commands_in_no_group_are_shown_too():
    other = typer.Typer(cls=OnePage)
    other.command("first", short_help="Do it.")(lambda: None)
    other.command("second", short_help="Do more.", hidden=True)(lambda: None)
    assert CliRunner().invoke(other, ["--help"]).output.endswith("Others:\n  first  Do it.\n")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["classify", "--help"], 0),
        (["offline", "--help"], 0),
        (["evaluate", "completion", "--help"], 0),
        (["describe"], 2),
        (["no-such-command"], 2),
        (["info", "--no-such-option"], 2),
        ([], 2),
    ],
)
def test_help_and_mistypings_are_answered_before_torch_is_loaded(arguments, status, run_apart):
    outcome = run_apart(*arguments, first=LIGHT)
    assert outcome.status == status, outcome.err
    assert "loaded" not in outcome.err and "Traceback" not in outcome.err


def test_version(run_apart):
    outcome = run_apart("--version", first=LIGHT)
    assert (outcome.status, outcome.out, outcome.err) == (0, f"visual-sentence {version('visual-sentence')}\n", "")


def test_the_version_of_what_is_not_installed(run, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    # by name: in the package a function hides the module
    monkeypatch.setattr(import_module("visual_sentence_cli.main"), "version_of", missing)
    outcome = run("--version")
    assert (outcome.status, outcome.out) == (0, "visual-sentence (not installed)\n")


def test_commands_are_completed(run_apart):
    assert sorted(complete(run_apart, "visual-sentence re")) == [
        *("reconstruct", "reproduce", "restore", "restore-masked")
    ]


def test_commands_of_commands_and_options_are_completed(run_apart):
    assert {"few-shot", "reconstruction", "pascal-5i"} <= set(complete(run_apart, "visual-sentence evaluate "))
    assert complete(run_apart, "visual-sentence offline status --j") == ["--json"]


def test_the_script_for_a_shell(run_apart, tmp_path):
    # without this switch of typer's the shell is looked for among the processes above, which differ from place to place
    no_guess = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    shown = run_apart("--show-completion", "bash", first=LIGHT, **no_guess)
    assert (shown.status, shown.err) == (0, "")
    assert f"{SHELL}=complete_bash" in shown.out and shown.out.rstrip().endswith(" visual-sentence")
    installed = run_apart("--install-completion", "bash", first=LIGHT, **no_guess)
    assert (installed.status, installed.err) == (0, "")
    script = tmp_path / ".bash_completions" / "visual-sentence.sh"
    assert script.read_text() == shown.out.rstrip("\n") and str(script) in (tmp_path / ".bashrc").read_text()
