"""What the page answers through its interface for programs: results, limits, errors, and nothing of the machine."""

import io
import re
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from visual_sentence.app.examples import sentence
from visual_sentence.sentence_completion import Question, SentenceCompleter
from visual_sentence.words import WordFinder

pytestmark = [pytest.mark.slow, pytest.mark.offline_stack]


@pytest.fixture(scope="module")
def client(address) -> Client:
    return Client(address, verbose=False)


def gallery(*paths: str) -> list[dict]:
    return [{"image": handle_file(path), "caption": None} for path in paths]


def editor(path: str, layers: tuple[str, ...] = ()) -> dict:
    files = [handle_file(one) for one in layers]
    return {"background": handle_file(path), "layers": files, "composite": None}


def test_words_are_the_finders(client, photo):
    table, drawn, told, shown, local = client.predict(handle_file(photo("cat")), 5, api_name="/words")
    (found,) = WordFinder.load("offline").find([Image.open(photo("cat"))], 5)
    assert [row[0] for row in table["data"]] == found.words
    assert len(drawn) == 2 and len(local["data"]) == 16 and len(local["data"][0]) == 16
    assert float(re.search(r"([\d.]+) dB", told)[1]) > 20
    assert Image.open(shown).width > 1000


def test_classes_are_told_apart(client, photo):
    names = ("cat", "coffee", "rocket", "")
    pictures = [gallery(photo(name)) if name else None for name in names]
    answer, words, read = client.predict(handle_file(photo("rocket")), 5, *names, *pictures, api_name="/few_shot")
    assert answer["label"] == "rocket"
    assert words in read and read.rstrip().endswith(":")


def test_captions_and_answers_are_written(client, photo):
    shown = [handle_file(photo(name)) for name in ("cat", "coffee")]
    slots = [*shown, None, None]
    query = handle_file(photo("rocket"))
    captions = ("a cat looks at us", "a cup of coffee", "", "")
    written, words = client.predict("Caption", "", query, *slots, *captions, api_name="/caption")
    assert written.strip() and words.count(",") == 20
    answers = ("yes", "no", "", "")
    question = "Is it an animal?"
    written, _ = client.predict("Ask a question", question, query, *slots, *answers, api_name="/caption")
    assert written.strip()


def test_a_hole_is_mended(client, photo):
    others = gallery(photo("coffee"), photo("rocket"))
    arguments = (handle_file(photo("cat")), "inpainting", others, 1, 16, 4)
    sheet, told = client.predict(*arguments, api_name="/restore")
    assert Image.open(sheet).width > 4 * 128
    assert re.fullmatch(
        r"damaged [\d.]+ dB, restored [\d.]+ dB, all words known [\d.]+ dB\. \d+ of 256 words were changed\.", told
    )


def ask(client: Client, folder: Path, task: str) -> tuple[list, str]:
    """The page's arguments for one of the examples, saved as files."""
    pairs, query = sentence(task)
    folder.mkdir()
    files = []
    for place, picture in enumerate((query, *(part for pair in pairs for part in pair))):
        files.append(str(folder / f"{place}.png"))
        picture.save(files[-1])
    return [handle_file(files[0]), "auto", *map(editor, files[1::2]), *map(handle_file, files[2::2])], task


def test_a_sentence_is_completed_as_elsewhere(client, tmp_path):
    arguments, task = ask(client, tmp_path / "files", "Segmentation")
    answer, sheet, told = client.predict(*arguments, api_name="/sentence")
    pairs, query = sentence(task)
    (expected,) = SentenceCompleter.load("default").complete([Question(pairs, query)], output="auto")
    found = Image.open(answer)
    assert found.convert("L").tobytes() == expected.painted.convert("L").tobytes()
    assert told.startswith("Read as a mask") and Image.open(sheet).height > 400


def test_a_painted_mask_is_an_answer(client, tmp_path):
    arguments, task = ask(client, tmp_path / "files", "Segmentation")
    by_files = client.predict(*arguments, api_name="/sentence")[0]
    (_, mask), *_ = sentence(task)[0]
    painted = Image.new("RGBA", mask.size)
    painted.paste((255, 255, 255, 255), mask=mask.convert("L"))
    painted.save(tmp_path / "painted.png")
    arguments[2] = {**arguments[2], "layers": [handle_file(str(tmp_path / "painted.png"))]}
    arguments[5] = None
    by_painting = client.predict(*arguments, api_name="/sentence")[0]
    assert Image.open(by_painting).tobytes() == Image.open(by_files).tobytes()


def test_a_video_is_read_and_gone_on_with(client, tmp_path):
    from visual_sentence.app.examples import write_film

    write_film(tmp_path / "film.mp4")
    film = handle_file(str(tmp_path / "film.mp4"))
    frames, drawn, told = client.predict(film, 3, 8, 1, api_name="/video")
    assert len(frames) == 3 and len(drawn) == 1
    assert [frame["caption"].split(" s:")[0] for frame in frames] == ["0.00", "0.50", "1.00"]
    assert told == "3 frames, one in 8; 1 more drawn by the model."


def test_visitors_do_not_get_each_others_answers(address, client, photo, tmp_path):
    names, tasks = ("cat", "coffee"), ("Segmentation", "Colourisation")
    words = {name: client.predict(handle_file(photo(name)), 5, api_name="/words")[0] for name in names}
    asked = {task: ask(client, tmp_path / task, task)[0] for task in tasks}
    done = {task: client.predict(*asked[task], api_name="/sentence")[0] for task in tasks}
    visitors = [Client(address, verbose=False) for _ in names]
    jobs = []
    for turn in range(2):
        for place, visitor in enumerate(visitors):
            name = names[(turn + place) % 2]
            jobs.append((words[name], visitor.submit(handle_file(photo(name)), 5, api_name="/words")))
    answers = [
        (task, one.submit(*asked[task], api_name="/sentence")) for task, one in zip(tasks, visitors, strict=True)
    ]
    for expected, job in jobs:
        assert job.result()[0] == expected
    for task, job in answers:
        assert Image.open(job.result()[0]).tobytes() == Image.open(done[task]).tobytes()


def test_mistakes_are_one_line(client, photo, bad_files, tmp_path):
    def told(*arguments, to: str) -> str:
        with pytest.raises(AppError) as caught:
            client.predict(*arguments, api_name=to)
        message = str(caught.value)
        assert "\n" not in message and "/" not in re.sub(r"<.*?>", "", message)
        return message

    assert "The picture is missing" in told(None, 5, to="/words")
    assert "is no picture that can be read" in told(handle_file(str(bad_files["text"][0])), 5, to="/words")
    assert "damaged or cut off" in told(handle_file(str(bad_files["truncated"][0])), 5, to="/words")
    assert "is no picture" in told(handle_file(str(bad_files["huge"][0])), 5, to="/words")
    large = photo("large", Image.new("RGB", (1200, 1000)))
    assert "1200 x 1000 pixels, more than the 1 megapixels" in told(handle_file(large), 5, to="/words")
    nothing = (None,) * 4
    one = (gallery(photo("cat")), None, None, None)
    query = handle_file(photo("rocket"))
    assert "a choice among 2" in told(query, 5, "cat", "", "", "", *one, to="/few_shot")
    assert "has no picture" in told(query, 5, "cat", "dog", "", "", *one, to="/few_shot")
    assert "The name of class 1 is empty" in told(query, 5, "", "", "", "", *one, to="/few_shot")
    many = (gallery(*[photo(name) for name in ("cat", "coffee", "rocket", "person", "motorcycle")]), None, None, None)
    assert "holds 5 pictures, this page takes 4" in told(query, 5, "cat", "", "", "", *many, to="/few_shot")
    assert "no example" in told("Caption", "", query, *nothing, *[""] * 4, to="/caption")
    assert "has 900 characters" in told("Ask a question", "?" * 900, query, *nothing, *[""] * 4, to="/caption")
    assert "no example" in told(query, "inpainting", None, 1, 16, 4, to="/restore")
    same = gallery(photo("rocket"))
    assert "among its own examples" in told(query, "inpainting", same, 1, 16, 4, to="/restore")
    assert "no pair" in told(query, "auto", *(None,) * 6, to="/sentence")
    unanswered = (editor(photo("cat")), None, None, None, None, None)
    assert "Pair 1 has no answer" in told(query, "auto", *unanswered, to="/sentence")
    assert "no video" in told(None, 3, 8, 1, to="/video")
    notes = tmp_path / "notes.mp4"
    notes.write_text("no film")
    assert "notes.mp4" in told(handle_file(str(notes)), 3, 8, 1, to="/video")


def test_uploads_are_limited(address):
    def upload(size: int) -> int:
        files = {"files": ("picture.png", io.BytesIO(bytes(size)), "image/png")}
        return httpx.post(f"{address}/gradio_api/upload", files=files, trust_env=False).status_code

    assert upload(1000) == 200
    assert upload(1_200_000) == 413


@pytest.mark.parametrize("path", ["/etc/hostname", str(Path(__file__).resolve()), "pyproject.toml", "../etc/hostname"])
def test_no_file_of_the_machine_is_read(address, path):
    get = httpx.get(f"{address}/gradio_api/file={path}", trust_env=False)
    assert get.status_code in (403, 404)
    picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
    asked = httpx.post(f"{address}/gradio_api/call/words", json={"data": [picture, 5]}, trust_env=False)
    number = asked.json()["event_id"]
    told = httpx.get(f"{address}/gradio_api/call/words/{number}", timeout=60, trust_env=False).text
    assert "event: error" in told and "event: complete" not in told
    content = Path(path).read_text() if Path(path).is_file() else "\0"
    assert content.strip() not in told
