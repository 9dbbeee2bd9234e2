"""The page in a real Chromium without a window: every tab clicked through, nothing asked of other hosts, no errors."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageStat

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the dev extra")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
# no sandbox of its own, which root may not have, and WebGL without a graphics card, for the picture that is painted on
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
MINUTES = 4 * 60_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.offline_stack,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium or Chrome on the path"),
]
GOING_ON = ".progress-level, .progress-text, .generating"
DONE = """
([out, going]) => {
    const found = document.querySelector(out);
    const text = found.innerText + [...found.querySelectorAll("textarea")].map((one) => one.value).join(" ");
    return text.trim().length > 3 && !document.querySelector(going);
}
"""


class Visit:
    """A page in the browser, and what went wrong on it."""

    def __init__(self, page, address: str):
        self.page, self.address = page, address
        self.errors: list[str] = []
        self.others: list[str] = []
        page.on("console", lambda told: told.type == "error" and self.errors.append(told.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._note)
        page.goto(address)
        page.wait_for_selector("#words-cat")

    def _note(self, request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.others.append(request.url)

    def open_tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def example(self, name: str, fills: str) -> None:
        """Clicks on an example, until its last picture shows."""
        self.page.locator(f"#{name}").click()
        self.page.locator(f"#{fills} img, #{fills} video").first.wait_for(timeout=MINUTES)

    def slide(self, label: str, value: int) -> None:
        number = (
            self.page.get_by_role("tabpanel")
            .get_by_label(f"number input for {label}", exact=True)
            .locator("visible=true")
        )
        number.fill(str(value))
        number.press("Enter")

    def run(self, name: str, out: str) -> str:
        """Clicks on the button and waits for the answer; gives its text."""
        self.page.locator(f"#run-{name}").click()
        self.page.wait_for_function(DONE, arg=[f"#{out}", GOING_ON], timeout=MINUTES)
        found = self.page.locator(f"#{out}")
        return found.inner_text() + " ".join(box.input_value() for box in found.locator("textarea").all())

    def shot(self, folder: Path, name: str) -> None:
        """A screenshot, which must show something."""
        path = folder / f"{name}.png"
        self.page.screenshot(path=path, full_page=True)
        assert ImageStat.Stat(Image.open(path).convert("L")).stddev[0] > 10


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture
def visit(browser, address) -> Iterator[Visit]:
    page = browser.new_page(viewport={"width": 1280, "height": 1200})
    visit = Visit(page, address)
    yield visit
    page.close()
    assert visit.errors == []
    assert visit.others == []


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where screenshots go: a folder that is asked for, or one that is thrown away."""
    kept = Path(os.environ.get("VISUAL_SENTENCE_SCREENSHOTS", tmp_path))
    kept.mkdir(parents=True, exist_ok=True)
    return kept


def test_words_and_few_shot(visit, folder):
    visit.example("words-cat", "words-picture")
    assert "16 x 16 words" in visit.run("words", "words-told")
    assert "cat" in visit.page.locator("#words-global").inner_text()
    visit.shot(folder, "words")
    visit.open_tab("Few-shot")
    visit.example("few-shot-example", "few-shot-query")
    assert visit.run("few_shot", "few-shot-answer").startswith("Which class it is")
    assert visit.page.locator("#few-shot-answer h2").inner_text() == "motorcycle"
    visit.shot(folder, "few-shot")


def test_captions_and_answers(visit, folder):
    visit.open_tab("Caption and ask")
    visit.example("caption-example", "caption-picture-4")
    assert len(visit.run("caption", "caption-written")) > 10
    visit.shot(folder, "caption")
    visit.example("ask-example", "caption-picture-4")
    assert len(visit.run("caption", "caption-written")) > 1


def test_restoring_and_stopping(visit, folder):
    visit.open_tab("Restore")
    visit.example("restore-cat", "restore-examples")
    visit.page.locator("#run-restore").click()
    visit.page.get_by_text("reading and writing").first.wait_for(timeout=MINUTES)
    visit.page.locator("#stop-restore").click()
    visit.page.wait_for_function(f"() => !document.querySelector('{GOING_ON}')")
    assert visit.page.locator("#restore-told").inner_text().strip() == ""
    visit.slide("Examples in a prompt", 1)
    visit.slide("Words written at a time (m)", 4)
    assert "of 256 words were changed" in visit.run("restore", "restore-told")
    visit.shot(folder, "restore")


def test_a_sentence_by_files_and_by_painting(visit, folder):
    visit.open_tab("Visual sentence")
    visit.example("sentence-segmentation", "pair-answer-3")
    assert "Read as a mask" in visit.run("sentence", "sentence-told")
    visit.shot(folder, "sentence")
    visit.page.locator("#pair-answer-1").get_by_label("Remove Image").or_(
        visit.page.locator("#pair-answer-1").get_by_label("Clear")
    ).first.click()
    canvas = visit.page.locator("#pair-picture-1 canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visit.page.mouse.move(*middle)
    visit.page.mouse.down()
    visit.page.mouse.move(middle[0] + 30, middle[1] + 20, steps=5)
    visit.page.mouse.up()
    visit.page.wait_for_timeout(1500)  # what was painted is sent a moment later
    assert "Read as a mask" in visit.run("sentence", "sentence-told")
    visit.shot(folder, "sentence-painted")


def test_a_video(visit, folder):
    visit.open_tab("Video")
    visit.example("video-example", "video-file")
    visit.slide("Frames", 3)
    assert "3 frames" in visit.run("video", "video-told")
    visit.shot(folder, "video")


def test_a_mistake_is_a_message_in_the_page(visit):
    visit.page.locator("#run-words").click()
    toast = visit.page.locator(".toast-body")
    toast.wait_for()
    assert "The picture is missing" in toast.inner_text()
