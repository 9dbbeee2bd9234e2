"""`visual-sentence complete`: what it writes, prints and refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visual_sentence import UserError
from visual_sentence.sentence_completion.completer import Question, SentenceCompleter
from visual_sentence.sentence_completion.picture_files import folder_pairs, parse_palette, parse_rows

from ..sentence_completion.conftest import (  # noqa: F401  (fixtures)
    blob,
    make_simlvm,
    make_simlvm_processor,
    noise,
    simlvm_folder,
)

PROMPTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "visual-prompts"


@pytest.fixture
def files(tmp_path) -> Path:
    """A folder with two pairs, three queries, a label map and a film."""
    folder = tmp_path / "given"
    (folder / "queries").mkdir(parents=True)
    for place in range(2):
        noise(place).save(folder / f"{place}.png")
        blob(place).save(folder / f"{place}_mask.png")
        noise(10 + place, (30, 24)).save(folder / "queries" / f"{place}.png")
    noise(12).save(folder / "query.png")
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], dtype=np.uint8)
    Image.fromarray(colours[np.asarray(noise(2))[..., 0] % 3]).save(folder / "classes.png")
    noise(3, (9, 9)).save(folder / "small.png")
    (folder / "clip.mp4").write_bytes(b"film")
    return folder


@pytest.fixture
def complete(run, simlvm_folder, files, monkeypatch):  # noqa: F811
    """Runs the command in the folder of the files."""
    monkeypatch.chdir(files)
    return lambda *arguments: run("complete", "--model", simlvm_folder, "--device", "cpu", *arguments)


PAIRS = ("--input", "0.png", "--target", "0_mask.png", "--input", "1.png", "--target", "1_mask.png")


def test_masks_of_a_folder_of_queries(complete, files, simlvm_folder):  # noqa: F811
    done = complete(*PAIRS, "--query", "query.png", "--query", "queries", "-o", "out", "--json", "--sheet", "sheet.png")
    assert done.status == 0, done.err
    printed = json.loads(done.out)
    queries = ["query.png", "queries/0.png", "queries/1.png"]
    assert [row["query"] for row in printed["answers"]] == queries
    assert [row["answer"] for row in printed["answers"]] == [f"out/{name}.answer.png" for name in ("query", "0", "1")]
    assert printed["pairs"] == [["0.png", "0_mask.png"], ["1.png", "1_mask.png"]] and printed["generation"] == {}
    pairs = [(noise(place), blob(place)) for place in range(2)]
    questions = [Question(pairs, Image.open(files / query)) for query in queries]
    answers = SentenceCompleter.load(simlvm_folder, "cpu").complete(questions, output="auto")
    for row, answer in zip(printed["answers"], answers, strict=True):
        written = Image.open(files / row["answer"])
        assert row["kind"] == "mask" and row["palette"] is None and written.mode == "L"
        assert np.array_equal(np.asarray(written) > 0, answer.mask)
        assert row["log_likelihood"] == pytest.approx(answer.log_likelihood, abs=1e-3)
    # two pairs, query and answer in each of three rows
    sheet = Image.open(files / "sheet.png")
    assert sheet.width > 6 * 128 and sheet.height > 3 * 128


def test_one_answer_in_one_file(complete, files):
    done = complete(*PAIRS, "--query", "query.png", "--as", "image", "-o", "answer.png")
    assert done.status == 0 and done.out.startswith("query.png: image, log-likelihood -") and "answer.png" in done.out
    assert Image.open(files / "answer.png").mode == "RGB"


def test_label_maps_keep_their_classes(complete, files):
    given = ("--input", "0.png", "--target", "classes.png", "--query", "query.png", "-o", "map.png", "--json")
    found = json.loads(complete(*given).out)["answers"][0]
    assert found["kind"] == "labels" and sorted(found["palette"]) == [[0, 0, 0], [0, 0, 255], [255, 0, 0]]
    written = Image.open(files / "map.png")
    assert written.mode == "P" and set(np.unique(np.asarray(written))) <= {0, 1, 2}
    painted = np.asarray(found["palette"], dtype=np.uint8)[np.asarray(written)]
    assert np.array_equal(np.asarray(written.convert("RGB")), painted)
    named = json.loads(complete(*given, "--palette", "ff0000,000000,0000ff").out)["answers"][0]
    assert named["palette"] == [[255, 0, 0], [0, 0, 0], [0, 0, 255]]


def test_frames_draws_and_known_rows(complete, files, simlvm_folder):  # noqa: F811
    done = complete("--frame", "0.png", "--frame", "1.png", "--images", 2, "-o", "next", "--json")
    rows = json.loads(done.out)["answers"]
    assert [row["answer"] for row in rows] == ["next/1.answer.png", "next/1-2.answer.png"]
    draw = (*PAIRS, "--query", "query.png", "--samples", 3, "--temperature", 2, "--as", "image", "--json")
    one, two, other = (json.loads(complete(*draw, "-o", "a.png", "--seed", seed).out) for seed in (1, 1, 2))
    assert one == two and one["answers"] != other["answers"]
    assert one["generation"] == {"do_sample": True, "seed": 1, "num_candidates": 3, "temperature": 2.0}
    known = ("--partial", "query.png", "--known-rows", "0-3", "--as", "image")
    assert complete(*PAIRS, "--query", "queries/0.png", *known, "-o", "known.png").status == 0
    completer = SentenceCompleter.load(simlvm_folder, "cpu")
    (drawn,) = completer.reconstruct([Image.open(files / "query.png")])
    (expected,) = completer.processor.postprocess(drawn.pixel_values[None], [(30, 24)])
    assert np.array_equal(np.asarray(Image.open(files / "known.png")), np.asarray(expected))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("-o", "out"), ("There is no query", "--query")),
        (("--query", "query.png", "-o", "out"), ("There is no pair", "--pairs-from")),
        ((*PAIRS[:2], "--query", "query.png", "-o", "out"), ("1 inputs and 0 targets", "a --target behind each")),
        ((*PAIRS, "--query", "clip.mp4", "-o", "out"), ("clip.mp4 is a video", "visual-sentence keyframes")),
        ((*PAIRS, "--query", "missing.png", "-o", "out"), ("missing.png", "check the path")),
        ((*PAIRS * 2, "--query", "query.png", "-o", "out"), ("3 pairs fit, you gave 4",)),
        (
            ("--input", "0.png", "--target", "small.png", "--query", "query.png", "-o", "out"),
            ("20 x 20 pixels and a target of 9 x 9", "bring both to one size"),
        ),
        (
            ("--input", "0.png", "--target", "classes.png", "--query", "query.png", "--palette", "000000", "-o", "out"),
            ("which the palette has not", "add it"),
        ),
        ((*PAIRS, "--query", "query.png", "--palette", "red", "-o", "out"), ("'red' is no colour", "RRGGBB")),
        ((*PAIRS, "--query", "query.png", "--as", "masks", "-o", "out"), ("no output 'masks'",)),
        ((*PAIRS, "--query", "queries", "-o", "one.png"), ("one file, but there are 2 answers",)),
        ((*PAIRS, "--query", "query.png", "-o", "one.jpg"), ("is no PNG",)),
        ((*PAIRS, "--query", "query.png", "-o", "query.png"), ("is read itself",)),
        ((*PAIRS, "--query", "query.png", "--images", "2", "-o", "out"), ("A query has one answer",)),
        ((*PAIRS, "--frame", "0.png", "-o", "out"), ("Frames are a sentence of their own",)),
        ((*PAIRS, "--query", "query.png", "--known-rows", "b", "-o", "out"), ("names no rows of tokens",)),
        ((*PAIRS, "--query", "query.png", "--partial", "0.png", "-o", "out"), ("both partial and known_rows",)),
        (
            (*PAIRS, "--query", "query.png", "--partial", "0.png", "--known-rows", "9", "-o", "out"),
            ("names row 9", "rows 0 to 3"),
        ),
    ],
)
def test_wrong_use_is_one_line(arguments, parts, complete, files):
    complete(*arguments).is_one_line(*parts)
    assert not list(files.glob("out/*"))


def test_a_folder_says_what_its_pairs_are(tmp_path, complete, files):
    for names in (["000000_img", "000000_label", "000001_img", "000001_label"], ["b", "b_target", "a", "a_target"]):
        folder = tmp_path / names[0]
        folder.mkdir()
        for place, name in enumerate(names):
            noise(place).save(folder / f"{name}.png")
        expected = sorted((folder / f"{names[place]}.png", folder / f"{names[place + 1]}.png") for place in (0, 2))
        assert folder_pairs(folder) == expected
    two = tmp_path / "two"
    for name in ("inputs/x.png", "inputs/y.png", "targets/x.png", "targets/y.png"):
        (two / name).parent.mkdir(parents=True, exist_ok=True)
        noise(1).save(two / name)
    assert folder_pairs(two) == [(two / "inputs" / f"{n}.png", two / "targets" / f"{n}.png") for n in "xy"]
    assert complete("--pairs-from", two, "--query", "query.png", "-o", "from.png").status == 0
    (two / "targets" / "y.png").unlink()
    with pytest.raises(UserError, match="'y' is in inputs but not in targets"):
        folder_pairs(two)
    (tmp_path / "b" / "b.png").unlink()
    with pytest.raises(UserError, match=r"b_target\.png is a target without its input"):
        folder_pairs(tmp_path / "b")
    with pytest.raises(UserError, match="holds no pairs"):
        folder_pairs(files / "queries")


def test_rows_and_colours_are_read():
    assert parse_rows("0-2, 5,7-7") == (0, 1, 2, 5, 7)
    assert parse_palette("000000,#FF8001") == [(0, 0, 0), (255, 128, 1)]
    for text in ("3-1", "", "-2"):
        with pytest.raises(UserError, match="names no rows"):
            parse_rows(text)


@pytest.mark.skipif(not PROMPTS.is_dir(), reason=f"needs the real prompts in {PROMPTS}")
def test_real_prompts_go_through(complete, files):
    folder = PROMPTS / "delvm"
    query = folder / "examples" / "seg_1.png"
    done = complete("--pairs-from", folder / "seg_prompt", "--query", query, "-o", "seg.png", "--sheet", "sheet.png")
    assert done.status == 0, done.err
    assert Image.open(files / "seg.png").size == Image.open(query).size
    assert len(folder_pairs(PROMPTS / "seggpt")) == 6
