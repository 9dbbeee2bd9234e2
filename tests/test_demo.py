"""The demo with the real offline models: right answer, complete page, and one line where something is missing."""

import re
import sys

import pytest
from PIL import Image

from visual_sentence import UserError
from visual_sentence.demo import EXAMPLES, QUESTION, SHOWN, DemoResult, load_photographs, render_page, run_demo


@pytest.fixture(scope="module")
def demo(offline_models, tmp_path_factory):
    """The demo's folder and result."""
    pytest.importorskip("skimage.data", reason="needs scikit-image (visual-sentence[demo])")
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    return folder, run_demo(folder)


@pytest.mark.offline_stack
def test_the_answer_is_right(demo):
    _, result = demo
    assert set(result.probabilities) == set(EXAMPLES)
    assert sum(result.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert result.answer == "motorcycle"
    assert set(result.words) == {*SHOWN, *EXAMPLES.values(), QUESTION}
    assert "cat" in result.words["chelsea.png"]


@pytest.mark.offline_stack
def test_picture_and_page_are_written(demo):
    folder, result = demo
    with Image.open(folder / "words.png") as picture:
        picture.load()
        assert min(picture.size) > 900
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert 'src="words.png"' in page and "http" not in page  # one page that needs nothing from elsewhere
    for label, probability in result.probabilities.items():
        assert f"<td>{label}</td><td>{probability:.1%}</td>" in page
    assert '<span class="answer">motorcycle</span>' in page
    for word in result.words[QUESTION]:
        assert word in page


def test_the_page_shows_text_as_text():
    result = DemoResult({}, {"<b>cat</b>": 1.0}, "Words: a < b & c")
    page = render_page(result)
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
