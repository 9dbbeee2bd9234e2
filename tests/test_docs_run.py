"""Every command and every Python block of README and docs is run, page by page, in order, with small models and data.

A page's folder (`docs_stage.py`) holds what its commands name: pictures, pairs, tables, and models of a few thousand
weights in the places of the ones that it names. The lines run as they stand; only numbers that make them long are made
small (`SMALLER`). What cannot be run here stands in `NOT_RUN`, with the reason; its commands are parsed by
`test_docs_site.py` and `test_docs.py`.
"""

import re
import runpy
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState

from visual_sentence.publishing.card import PLACE_OF_COMMIT
from visual_sentence_cli import main

from .cli.conftest import run  # noqa: F401  (fixture)
from .docs_stage import NAMES, PREPARED, Stage
from .publishing.conftest import hub  # noqa: F401  (fixture)
from .publishing.hub_server import HubServer
from .test_docs_site import ROOT, commands_of, name_of

pytestmark = [pytest.mark.slow, pytest.mark.offline_stack]

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Command -> options that are given at all, or a smaller number, so that it ends within a second or two.
TRAINING = {"--max-steps": "2", "--batch-size": "2", "--warmup-steps": "0", "--tracker": "none"}
SMALLER = {
    "scripts/train_vqgan.py": {**TRAINING, "--num-samples": "2", "--unquantized-steps": "1"},
    "scripts/train_v2l.py": {**TRAINING, "--num-samples": "2", "--unquantized-steps": "1"},
    "scripts/train_simlvm.py": TRAINING,
    "scripts/distill_simlvm.py": TRAINING,
    "scripts/finetune_lm_lora.py": TRAINING,
    "scripts/train_frozen.py": TRAINING,
    "scripts/build_pairs.py": {"--limit": "4"},
    "scripts/tokenize_dataset.py": {"--workers": "1"},
    "visual-sentence evaluate few-shot": {"--limit": "2"},
    "visual-sentence evaluate reconstruction": {"--limit": "4"},
    "visual-sentence evaluate restoration": {"--limit": "2"},
    "visual-sentence evaluate masked-restoration": {"--limit": "2"},
    "visual-sentence evaluate completion": {"--queries": "2", "--prompt-sets": "1"},
    "visual-sentence evaluate pascal-5i": {"--queries": "2"},
}
# Options that are made smaller where a page has them.
SMALLER_WHERE_GIVEN = {"--num-workers": "0"}
# Page -> commands of other pages that it builds on.
FIRST = {
    "docs/howto/evaluate.md": [
        "scripts/finetune_lm_lora.py --model hub_configs/v2l-small --data photos/ --output tuned"
    ],
    "docs/security.md": ["visual-sentence push lvm --repo-id OWNER/NAME"],
    "docs/video.md": ["visual-sentence sentence film.mp4 --output films"],
}
# Pages that talk to the Hub, for which another one stands in.
ON_THE_HUB = ("docs/howto/publish.md", "docs/security.md")
# Drawn shapes are made one by one; some are enough.
SHAPES = (re.compile(r"shapes\[(\d+)?:\d+\]"), "shapes[:12]")
# (page or nothing for all, pattern of how the command or the block begins) -> why it is not run.
NETWORK, SERVER, PROCESSES = "asks the network", "needs a server", "starts several processes"
PUBLISHED = "reads weights of other projects; tests/conversion has small ones of each"
SETTING_UP = "sets up an environment"
MANY_WORDS = "asks for 21 words, more than the few pictures here leave in the codebook"
NOT_RUN = {
    ("", "make "): SETTING_UP,
    ("", "pip install "): SETTING_UP,
    ("", "python -m venv "): SETTING_UP,
    ("", "source "): SETTING_UP,
    ("", "visual-sentence offline install"): SETTING_UP,
    ("", "hf "): NETWORK,
    ("", "accelerate launch "): PROCESSES,
    ("", "torchrun "): PROCESSES,
    ("", "vllm serve "): SERVER,
    ("", "visual-sentence app"): "serves until it is stopped",
    ("", r".*tgi\+http://|.*http://localhost"): SERVER,
    ("", r"visual-sentence convert \S+ --from"): PUBLISHED,
    ("", "visual-sentence reproduce "): "measures for minutes on the papers' data; tests/reproduction has made-up ones",
    ("", r"python scripts/benchmark\.py "): "measures speed for minutes; tests/scripts runs each case small",
    ("docs/reproduction.md", ".*meta-llama"): "data of the Hub and LLaMA-2's weights",
    ("docs/results.md", ""): "the measurements themselves: minutes to hours, on data of gigabytes",
    ("docs/baselines.md", ".*--preset paper"): "the papers' size; the lines of --preset small are run",
    ("docs/howto/llama_clip.md", "visual-sentence (describe|caption|answer) "): MANY_WORDS,
    ("docs/howto/publish.md", "python scripts/build_hub_repositories.py"): "tests/publishing builds them",
    ("docs/simlvm.md", "python scripts/distill_simlvm.py"): "runs on howto/distil.md, with the teacher's VQGAN",
    ("docs/visual_sentences_evaluation.md", ".*BAAI/seggpt"): PUBLISHED,
    ("docs/visual_sentences_evaluation.md", ".*splits"): "reads visual_prompting's lists; tests/data has made-up ones",
    ("docs/training.md", ".*--preset paper"): "its perceptual loss needs 32 pixels, the small models have 16",
    ("docs/visual_sentences_data.md", ".*sa1b"): "SA-1B's files; tests/data has a made-up folder of them",
}


@dataclass(frozen=True)
class Step:
    """A command or a block of Python of a page.

    Args:
        page: The page's path in the repository.
        line: Where its block begins.
        language: "bash" or "python".
        text: The command in one line, or the block.
        words: The command's words.
    """

    page: str
    line: int
    language: str
    text: str
    words: tuple[str, ...] = ()


def steps_of(page: Path) -> list[Step]:
    """What a page has to run, in its order."""
    text, found = page.read_text(encoding="utf-8"), []
    for block in re.finditer(r"^```(bash|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        line = text.count("\n", 0, block.start()) + 2
        if block[1] == "python":
            found.append(Step(name_of(page), line, "python", block[2]))
        else:
            found += [
                Step(name_of(page), line, "bash", " ".join(words), tuple(words)) for words in commands_of(block[2])
            ]
    return found


STEPS = {name_of(page): steps_of(page) for page in PAGES}


def reasons(step: Step) -> list[tuple[str, str]]:
    """The entries of `NOT_RUN` that name a step."""
    return [
        (page, start) for page, start in NOT_RUN if page in ("", step.page) and re.match(start, step.text, re.DOTALL)
    ]


def made_small(words: list[str]) -> list[str]:
    """A command's words with the options of `SMALLER`."""
    words = [SHAPES[0].sub(SHAPES[1], word) for word in words if word != "python"]
    wanted = [options for start, options in SMALLER.items() if words[: len(start.split())] == start.split()]
    for option, value in [*SMALLER_WHERE_GIVEN.items(), *(item for options in wanted for item in options.items())]:
        if option in words:
            place = words.index(option) + 1
            words[place] = min(words[place], value, key=float)
        elif option not in SMALLER_WHERE_GIVEN:
            words += [option, value]
    return words


def run_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs `visual-sentence` or a script in this process."""
    words = made_small(words)
    monkeypatch.setattr(sys, "argv", words)
    if words[0] == "visual-sentence":
        call = main
    else:
        assert re.fullmatch(r"scripts/\w+\.py", words[0]), f"neither run nor in NOT_RUN: {words}"
        monkeypatch.syspath_prepend(str(ROOT / "scripts"))

        def call() -> None:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")

    try:
        call()
    except SystemExit as ended:
        assert not ended.code, f"status {ended.code}"
    finally:
        # as a process of its own would begin
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


@pytest.fixture(scope="module")
def stage(offline_models, llm_folder, tmp_path_factory) -> Stage:
    return Stage(tmp_path_factory.mktemp("docs"), llm_folder)


def pin(server: HubServer | None) -> None:
    """Makes the last commits those that the pages pin."""
    for repository in server.repositories.values() if server is not None else ():
        repository.branches[PLACE_OF_COMMIT] = repository.branches["main"]


@pytest.mark.usefixtures("modules_cache")
@pytest.mark.parametrize("page", [page for page, steps in STEPS.items() if any(not reasons(step) for step in steps)])
def test_the_page_runs(page, stage, tmp_path, monkeypatch, capsys, request):
    server = request.getfixturevalue("hub") if page in ON_THE_HUB else None
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("visual_sentence.publishing.check_loads", lambda *_: None)  # a process of its own
    folder = stage.prepare(page, tmp_path / "page")
    monkeypatch.chdir(folder)
    stage.patch(monkeypatch)
    names = dict(NAMES.get(page, lambda folder: {})(folder))
    for command in FIRST.get(page, []):
        with monkeypatch.context() as patched:
            run_command(command.split(), patched)
    pin(server)
    failures = []
    for step in STEPS[page]:
        if reasons(step):
            continue
        try:
            if step.language == "bash":
                with monkeypatch.context() as patched:
                    run_command(list(step.words), patched)
            else:
                exec(compile("\n" * (step.line - 1) + step.text, page, "exec"), names)
        except (Exception, SystemExit) as error:
            said = capsys.readouterr().err[-600:]
            where = "".join(traceback.format_exception(error)[-3:])
            failures.append(f"{page}:{step.line}: {step.text}\n{said}\n{where[-1500:]}")
        pin(server)
    assert not failures, "\n\n".join(failures)


def test_what_is_not_run_is_still_there():
    named = {entry for steps in STEPS.values() for step in steps for entry in reasons(step)}
    assert set(NOT_RUN) == named, f"in no page any more: {set(NOT_RUN) - named}"
    assert all(NOT_RUN.values()), "an entry without a reason"


def test_what_is_made_small_or_prepared_is_of_a_page():
    everything = [
        " ".join(word for word in step.words if word != "python") for steps in STEPS.values() for step in steps
    ]
    assert [start for start in SMALLER if not any(text.startswith(start) for text in everything)] == []
    assert set(PREPARED) | set(NAMES) <= set(STEPS)
