"""The demo with the real offline models: right answer, complete page, and one line where something is missing."""

import json
import re
import sys
from html import escape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visual_sentence import UserError
from visual_sentence.demo import EXAMPLES, QUESTION, SHOWN, DemoResult, SheetResult, WordsResult, run_demo
from visual_sentence.demo.page import render_page
from visual_sentence.demo.results import sentence_result
from visual_sentence.demo.sentences import TASKS as SENTENCES
from visual_sentence.demo.tissue import CORNERS, SIDE
from visual_sentence.demo.words_picture import load_photographs
from visual_sentence.restoration import TASKS as RESTORATIONS

from .test_packaging import built, installed, package_folders, project  # noqa: F401  (fixtures)


@pytest.fixture(scope="module")
def demo(installed, offline_models, tmp_path_factory) -> tuple[Path, DemoResult]:  # noqa: F811
    """The demo's folder and result: run from the wheel in an empty folder, with the repository out of reach."""
    pytest.importorskip("skimage.data", reason="needs scikit-image (visual-sentence[demo])")
    place = tmp_path_factory.mktemp("empty")
    settings = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path_factory.mktemp("home"))}
    command = ["demo", "--output", "new/folder", "--json"]
    done = installed.run(command, place, settings, program="visual-sentence")
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads(done.stdout)
    assert record["page"] == "new/folder/index.html" and [path.name for path in place.iterdir()] == ["new"]
    parts = (tuple(SheetResult(**one) for one in record[name]) for name in ("restorations", "sentences"))
    words, reconstruction = WordsResult(**record["photographs"]), SheetResult(**record["reconstruction"])
    return place / "new" / "folder", DemoResult(words, reconstruction, *parts)


@pytest.mark.slow
@pytest.mark.offline_stack
def test_the_answer_is_right(demo):
    result = demo[1].photographs
    assert set(result.probabilities) == set(EXAMPLES)
    assert sum(result.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert result.answer == "motorcycle"
    assert set(result.words) == {*SHOWN, *EXAMPLES.values(), QUESTION}
    assert "cat" in result.words["chelsea.png"]


@pytest.mark.slow
@pytest.mark.offline_stack
def test_picture_and_page_are_written(demo):
    folder, result = demo
    with Image.open(folder / "words.png") as picture:
        picture.load()
        assert min(picture.size) > 900
    page = (folder / "index.html").read_text(encoding="utf-8")
    shown = re.findall(r'src="([^"]+)"', page)
    assert len(shown) > 5 and all((folder / name).is_file() for name in shown)
    assert 'src="words.png"' in page and "http" not in page  # one page that needs nothing from elsewhere
    for label, probability in result.photographs.probabilities.items():
        assert f"<td>{label}</td><td>{probability:.1%}</td>" in page
    assert '<span class="answer">motorcycle</span>' in page
    for word in result.photographs.words[QUESTION]:
        assert word in page


@pytest.mark.slow
@pytest.mark.offline_stack
def test_every_task_is_measured_and_shown(demo):
    folder, result = demo
    page = (folder / "index.html").read_text(encoding="utf-8")
    titles = [title for title, _ in SENTENCES.values()] + ["Nuclei"]
    assert [one.title for one in result.sentences] == titles
    assert [one.title.lower() for one in result.restorations] == list(RESTORATIONS)
    for one in (result.reconstruction, *result.restorations, *result.sentences):
        assert f">{one.shown(one.value)}<" in page and one.shown(one.references[one.best_reference]) in page
        assert ("No better than without a model" in page) or not one.is_failure
        assert escape(one.note) in page
        with Image.open(folder / one.picture) as sheet:
            sheet.load()
            assert min(sheet.size) > 2 * 128


@pytest.mark.slow
@pytest.mark.offline_stack
def test_what_the_models_that_ship_can_do(demo):
    result = demo[1]
    words = result.reconstruction
    assert words.queries == len({*SHOWN, *EXAMPLES.values(), QUESTION})
    assert words.value > words.references["its mean colour"] + 8 and "16 x 16 words" in words.note
    sentences = {one.title: one for one in result.sentences}
    masks, denoised, nuclei = sentences["Segmentation"], sentences["Denoising"], sentences["Nuclei"]
    for one in result.sentences:
        assert set(one.references) == {"copy input", "copy last target", "nearest target"} and one.queries == 8
    assert masks.measure == nuclei.measure == "dice" and masks.value > masks.references[masks.best_reference] + 0.2
    assert denoised.measure == "psnr" and denoised.value > denoised.references[denoised.best_reference] + 2
    assert not nuclei.is_failure


def test_squares_of_tissue_do_not_overlap():
    covered = np.zeros((512, 512), dtype=int)
    for left, top in CORNERS:
        covered[top : top + SIDE, left : left + SIDE] += 1
    assert covered.max() == 1 and covered.sum() == len(CORNERS) * SIDE * SIDE


def test_numbers_of_sentences_leave_the_bound_out():
    references = {"copy_input": {"dice": None, "psnr": 9.0}, "tokenizer": {"dice": None, "psnr": 30.0}}
    row = {"dice": None, "psnr": 20.25, "n": 3, "references": references}
    found = sentence_result("Denoising", "a.png", {"results": [row]}, "tokenizer")
    assert found == SheetResult("Denoising", "a.png", "psnr", 20.25, {"copy input": 9.0}, 3)
    assert found.summary() == "20.2 dB, against 9.0 dB by the best answer that asks no model (copy input)"


def test_what_is_no_better_than_its_references_is_called_so():
    good, bad = (SheetResult("A", "a.png", "psnr", value, {"as it is": 20.0}, 2) for value in (20.1, 20.0))
    assert bad.is_failure and not good.is_failure
    words = WordsResult({}, {"cat": 1.0}, "")
    assert "No better" in render_page(DemoResult(words, restorations=(bad,)), "words.png")
    assert "No better" not in render_page(DemoResult(words, restorations=(good,)), "words.png")


def test_the_page_shows_text_as_text():
    result = DemoResult(WordsResult({}, {"<b>cat</b>": 1.0}, "Words: a < b & c"))
    page = render_page(result, "words.png")
    assert "<b>cat" not in page and "&lt;b&gt;cat" in page
    assert re.search(r"<pre>Words: a &lt; b &amp; c</pre>", page)


def test_missing_photographs_are_answered_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(UserError, match=r"scikit-image.*not installed.*pip install 'visual-sentence\[demo\]'") as error:
        load_photographs()
    assert "\n" not in str(error.value)


@pytest.mark.offline_stack
def test_a_folder_that_cannot_be_written_is_named(offline_models, tmp_path):
    pytest.importorskip("skimage.data", reason="needs scikit-image (visual-sentence[demo])")
    (tmp_path / "words.png").mkdir()
    with pytest.raises(UserError, match=r"cannot be written \(.*\): choose another folder with --output"):
        run_demo(tmp_path)
