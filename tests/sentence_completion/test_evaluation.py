"""Measuring completions: which pairs stand before which query, what is measured of the answers, and beside what."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from visual_sentence.data import Example, ExampleSource, TaskData, VisualSentence, make_task, parse_task_data
from visual_sentence.errors import UserError
from visual_sentence.sentence_completion import Completion, CompletionSetting, evaluate_completion
from visual_sentence.sentence_completion.sheet import CELL, GAP, SHOWN

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SIDE = 32
Answer = Callable[[VisualSentence], Image.Image]


class Puppet:
    """A completer that answers as it is told and remembers what it was asked.

    Args:
        answer: A picture for each sentence.
        side: Its resolution.
        spoil: What its image tokenizer makes of a picture.
    """

    def __init__(self, answer: Answer, side: int = SIDE, spoil: Callable[[Image.Image], Image.Image] | None = None):
        self.answer, self.side, self.spoil = answer, side, spoil or (lambda picture: picture)
        self.asked: list[VisualSentence] = []
        self.calls: list[int] = []
        self.rebuilt = 0
        self.processor = SimpleNamespace(max_images=24, image_processor=SimpleNamespace(local_fit="stretch"))

    def complete(self, sentences, batch_size=16, **generation) -> list[Completion]:
        self.asked += sentences
        self.calls.append(len(sentences))
        return [self._drawn(self.answer(sentence)) for sentence in sentences]

    def reconstruct(self, pictures, batch_size=16) -> list[Completion]:
        self.rebuilt += len(pictures)
        return [self._drawn(self.spoil(picture)) for picture in pictures]

    def _drawn(self, picture: Image.Image) -> Completion:
        pixels = np.array(picture.resize((self.side, self.side), Image.Resampling.NEAREST), dtype=np.float32)
        values = torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1
        return Completion(picture, values, torch.zeros(4, 4, dtype=torch.int64), 0.0)


class Rows(ExampleSource):
    """Pictures of a few source pictures: row i is of source i modulo their number."""

    def __init__(self, count: int, sources: int, size: tuple[int, int] = (20, 12)):
        self.name, self.count, self.sources, self.size = "rows", count, sources, size

    def __len__(self) -> int:
        return self.count

    def source_of(self, index: int) -> str:
        return f"picture {index % self.sources}"

    def example(self, index: int) -> Example:
        generator = np.random.default_rng(index)
        image = Image.fromarray(generator.integers(0, 256, (*self.size[::-1], 3), dtype=np.uint8))
        return Example(image, self.source_of(index), mask=generator.random(self.size[::-1]) < 0.4)


def truth(sentence: VisualSentence) -> Image.Image:
    return sentence.target


def last(sentence: VisualSentence) -> Image.Image:
    return sentence.pairs[-1].target


def half(sentence: VisualSentence) -> Image.Image:
    """The true answer in the upper half, that of the first pair in the lower one."""
    found = sentence.target.copy()
    width, height = found.size
    found.paste(sentence.pairs[0].target.resize(found.size).crop((0, height // 2, width, height)), (0, height // 2))
    return found


def shapes(text: str) -> TaskData:
    return parse_task_data(text)


def measures(row: dict) -> dict:
    """What answers and references both have."""
    return {
        name: value for name, value in row.items() if name not in ("pairs", "n", "seconds_per_answer", "references")
    }


def evaluate(answer: Answer, data: TaskData, *pairs: int, **options) -> tuple[dict, Puppet]:
    completer = Puppet(answer)
    setting = CompletionSetting(pairs or (1, 3), **{"queries": 10, "prompt_sets": 2, **options})
    return evaluate_completion(completer, data, setting), completer


@pytest.fixture
def masks() -> TaskData:
    return shapes(f"segmentation:shapes[:30]?size={SIDE}")


@pytest.mark.parametrize("text", ["segmentation:shapes[:30]?", "palette_segmentation:shapes[:30]?classes=1,2&"])
def test_the_true_answer_has_no_fault(text):
    found, _ = evaluate(truth, shapes(f"{text}size={SIDE}"), 9, 11)  # so many that all classes are shown
    for row in found["results"]:
        for name in ("dice", "iou"):
            assert row[name] == row["pooled"][name] == 1 and row["ci95"][name] == [1, 1]
        assert row["psnr"] is row["ssim"] is row["aji"] is row["ci95"]["psnr"] is None
        assert row["identical"] is None and row["n"] == 10


def test_true_images_are_identical_and_have_no_mean():
    found, _ = evaluate(truth, shapes(f"denoising:shapes[:30]?size={SIDE}&sigma=50"))
    for row in found["results"]:
        assert row["psnr"] is None and row["ci95"]["psnr"] is None and row["identical"] == 20
        assert row["ssim"] == pytest.approx(1) and row["dice"] is None
        # noise of 50 / 255 has 14 dB, less what is cut off at black and white
        assert 13 < row["references"]["copy_input"]["psnr"] < 16.5
        assert row["references"]["copy_last_target"]["psnr"] < 20


@pytest.mark.parametrize(
    "text", ["segmentation:shapes[:30]", "palette_segmentation:shapes[:30]", "colourisation:shapes[:30]"]
)
def test_copies_are_the_references(text):
    data = shapes(f"{text}?size={SIDE}")
    nearest = {}

    def copied_nearest(sentence: VisualSentence) -> Image.Image:
        """By a plain loop over the pixels of 32 x 32, which these pictures have."""
        wanted, distances = np.asarray(sentence.query, dtype=int), []
        for pair in sentence.pairs:
            distances.append(((np.asarray(pair.input, dtype=int) - wanted) ** 2).sum())
        nearest[len(sentence.pairs)] = nearest.get(len(sentence.pairs), 0) + int(np.argmin(distances))
        return sentence.pairs[int(np.argmin(distances))].target

    for answer, name in ((last, "copy_last_target"), (copied_nearest, "nearest_target")):
        for row in evaluate(answer, data)[0]["results"]:
            assert measures(row) == row["references"][name]
            assert row["references"]["copy_last_target"] == row["references"]["nearest_target"] or row["pairs"] > 1
    assert nearest[1] == 0 < nearest[3]
    found, _ = evaluate(lambda sentence: sentence.query, data)
    for row in found["results"]:
        if "palette" not in text:  # an answer has only the colours that the pairs show
            assert measures(row) == row["references"]["copy_input"]
        assert row["references"]["tokenizer"] == evaluate(truth, data)[0]["results"][0]["references"]["tokenizer"]


def test_numbers_by_plain_loops(masks):
    found, completer = evaluate(half, masks, 2, queries=12, prompt_sets=3)
    values: dict[str, list[tuple[float, float]]] = {}
    pooled = np.zeros(3)
    for sentence in completer.asked:
        answer, true = (np.asarray(picture)[..., 0] > 127 for picture in (half(sentence), sentence.target))
        common, either = (answer & true).sum(), (answer | true).sum()
        pooled += (common, answer.sum() + true.sum(), either)
        score = (2 * common / (answer.sum() + true.sum()), common / either)
        values.setdefault(sentence.sources[-1], []).append(score)
    row = found["results"][0]
    assert len(values) == row["n"] == 12 and all(len(scores) == 3 for scores in values.values())
    dice, iou = np.mean([np.mean(scores, axis=0) for scores in values.values()], axis=0)
    assert (row["dice"], row["iou"]) == pytest.approx((dice, iou)) and 0.4 < dice < 0.99
    assert row["pooled"]["dice"] == pytest.approx(2 * pooled[0] / pooled[1])
    assert row["pooled"]["iou"] == pytest.approx(pooled[0] / pooled[2])
    low, high = row["ci95"]["dice"]
    assert low < dice < high and high - low < 0.3


@pytest.mark.parametrize(("images", "counts"), [(4, [1]), (8, [1, 3]), (12, [1, 3, 5]), (20, [1, 3, 5])])
def test_by_default_those_numbers_of_pairs_that_fit(masks, images, counts):
    completer = Puppet(last)
    completer.processor.max_images = images
    found = evaluate_completion(completer, masks, CompletionSetting(queries=2, prompt_sets=1))
    assert [row["pairs"] for row in found["results"]] == list(found["setting"]["pairs"]) == counts


def test_pairs_are_nested_shared_and_never_of_the_querys_source(masks):
    _, completer = evaluate(last, masks, 1, 3, 5, queries=30, prompt_sets=2)
    by_query: dict[tuple[str, int], list] = {}
    for sentence in completer.asked:
        assert len(set(sentence.sources)) == len(sentence.pairs) + 1
        by_query.setdefault((sentence.sources[-1], len(sentence.pairs)), []).append(sentence.pairs)
    queries = {source for source, _ in by_query}
    assert len(queries) == 30
    for source in queries:
        first, second = by_query[source, 5]
        assert [pair.source for pair in first] != [pair.source for pair in second]
        for count in (1, 3):
            assert by_query[source, count] == [pairs[:count] for pairs in (first, second)]
    # each set of five is asked whole by all but the five queries of its own sources
    together = [pairs for source in queries for pairs in by_query[source, 5]]
    counts = sorted(together.count(pairs) for pairs in together[:20])
    assert counts[-1] == 25
    assert all(sources == 1 for sources in counts if sources < 25)


def test_rows_of_one_source_never_meet():
    data = TaskData(make_task("segmentation"), Rows(12, 4), text="segmentation:rows")
    found, completer = evaluate(last, data, 3, queries=12)
    assert found["setting"]["sources"] == 4 and found["setting"]["queries"] == 12
    assert all(len(set(sentence.sources)) == 4 for sentence in completer.asked)
    with pytest.raises(
        UserError, match=r"rows has 4 different source pictures, so 3 pairs fit .* not 4: ask for fewer"
    ):
        evaluate(last, data, 4)
    other = TaskData(data.task, Rows(5, 5), text="segmentation:others")
    completer = Puppet(last)
    setting = CompletionSetting((4,), queries=12, prompt_sets=1)
    result = evaluate_completion(completer, data, setting, other)
    assert result["setting"]["pairs_from"] == "segmentation:others"
    assert all(pair.input in [example.image for example in other.source] for pair in completer.asked[0].pairs)


def test_answers_are_compared_at_the_querys_own_size():
    data = TaskData(make_task("segmentation"), Rows(8, 8, size=(50, 41)), text="rows")
    found, completer = evaluate(truth, data, 2, queries=3, prompt_sets=1)
    scores = []
    for sentence in completer.asked:
        small = sentence.target.resize((SIDE, SIDE), Image.Resampling.NEAREST)
        answer = np.asarray(small.resize((50, 41), Image.Resampling.BICUBIC)).mean(axis=2) > 127.5
        true = np.asarray(sentence.target)[..., 0] > 127
        scores.append(2 * (answer & true).sum() / (answer.sum() + true.sum()))
    assert found["results"][0]["dice"] == pytest.approx(np.mean(scores)) and np.mean(scores) < 0.95
    assert found["results"][0]["references"]["tokenizer"]["dice"] == pytest.approx(np.mean(scores))
    stretched, completer = evaluate(truth, data, 2, queries=3, prompt_sets=1, size=SIDE)
    assert stretched["results"][0]["dice"] == 1 and completer.asked[0].query.size == (SIDE, SIDE)


def test_everything_random_comes_from_the_seed(masks):
    def run(seed: int) -> tuple[dict, list]:
        found, completer = evaluate(half, masks, queries=8, seed=seed)
        for row in found["results"]:
            row.pop("seconds_per_answer")
        return found, [sentence.sources for sentence in completer.asked]

    assert run(0) == run(0)
    assert run(0)[1] != run(1)[1]
    fewer, more = (evaluate(half, masks, queries=count)[1].asked for count in (4, 8))
    assert {sentence.sources[-1] for sentence in fewer} < {sentence.sources[-1] for sentence in more}


def test_a_queries_damage_is_that_of_the_query_alone():
    _, completer = evaluate(last, shapes(f"denoising:shapes[:30]?size={SIDE}"), 1, 2, queries=4)
    seen: dict[str, set] = {}
    for sentence in completer.asked:
        seen.setdefault(sentence.sources[-1], set()).add(sentence.query.tobytes())
    assert len(seen) == 4 and all(len(pictures) == 1 for pictures in seen.values())
    assert completer.rebuilt == 4  # the tokenizer's own answer is asked for once


def test_a_class_is_shown_by_all_pairs_and_in_all_queries():
    data = shapes(f"segmentation:shapes[:60]?size={SIDE}&foreground=3")
    _, completer = evaluate(truth, data, 2, queries=8)
    pictures = [sentence.target for sentence in completer.asked] + [last(sentence) for sentence in completer.asked]
    assert all(np.asarray(picture).any() for picture in pictures)
    found, completer = evaluate(truth, shapes(f"segmentation:shapes[:60]?size={SIDE}&foreground=any"), 2, queries=8)
    assert len({sentence.setting for sentence in completer.asked}) > 1 and found["results"][0]["dice"] == 1
    for sentence in completer.asked:
        assert {pair.setting for pair in sentence.pairs} == {sentence.setting}
        assert all(np.asarray(pair.target).any() for pair in sentence.pairs)
    with pytest.raises(UserError, match="None of the 9 examples of shapes shows what"):
        evaluate(truth, shapes(f"segmentation:shapes[:9]?size={SIDE}&foreground=77"), 1)


def test_random_colours_are_those_of_the_sentence():
    data = shapes(f"palette_segmentation:shapes[:40]?size={SIDE}&colours=random")
    found, completer = evaluate(truth, data, 5, queries=6, prompt_sets=3)
    assert len({sentence.setting for sentence in completer.asked}) > 1
    row = found["results"][0]
    # five pairs need not show every class, and what they do not show cannot be answered
    assert 0.8 < row["dice"] <= 1 and row["references"]["tokenizer"]["dice"] == 1


def test_instances_of_masks(masks):
    found, _ = evaluate(truth, masks, 1, instances=True)
    row = found["results"][0]
    assert row["aji"] == row["pooled"]["aji"] == 1 and row["ci95"]["aji"] == [1, 1]
    assert 0 <= row["references"]["copy_last_target"]["aji"] < row["references"]["copy_last_target"]["dice"]
    with pytest.raises(UserError, match="Instances are the connected parts of a mask"):
        evaluate(truth, shapes("denoising:shapes[:9]"), 1, instances=True)


def test_the_tokenizer_is_the_ceiling(masks):
    completer = Puppet(truth, spoil=lambda picture: Image.new("RGB", picture.size, "white"))
    row = evaluate_completion(completer, masks, CompletionSetting((1,), 4, 1))["results"][0]
    share = np.mean([(np.asarray(sentence.target)[..., 0] > 0).mean() for sentence in completer.asked])
    assert row["references"]["tokenizer"]["pooled"]["iou"] == pytest.approx(share)
    assert row["dice"] == 1


def test_sheet_shows_the_first_queries_and_the_worst(masks, tmp_path):
    targets = []

    def one_wrong(sentence: VisualSentence) -> Image.Image:
        """Black where eight others were right before."""
        targets.append(sentence.target)
        return Image.new("RGB", sentence.query.size) if len(targets) == 9 else sentence.target

    setting = CompletionSetting((2,), queries=12, prompt_sets=1)
    evaluate_completion(Puppet(one_wrong), masks, setting, sheet=tmp_path / "new" / "sheet.png")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["sheet.png"]
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert sheet.width == GAP + 7 * (CELL + GAP)
        rows = sheet.height // (CELL + GAP)
        left, top = GAP + 5 * (CELL + GAP), sheet.height - CELL - 30
        answer = np.asarray(sheet.crop((left, top, left + CELL, top + CELL)))
        truth_shown = np.asarray(sheet.crop((left + CELL + GAP, top, left + 2 * CELL + GAP, top + CELL)))
        assert rows >= SHOWN + 1 and not answer.any()
        expected = targets[8].resize((CELL, CELL), Image.Resampling.NEAREST)
        assert (truth_shown == np.asarray(expected)).all()
    (tmp_path / "file").write_text("")
    for place, message in (("file/sheet.png", "choose another place for the sheet"), ("new", "is a folder")):
        completer = Puppet(truth)
        with pytest.raises(UserError, match=message):
            evaluate_completion(completer, masks, setting, sheet=tmp_path / place)
        assert not completer.asked


def test_what_cannot_be_measured_is_refused_before_the_model_is_asked(masks):
    completer = Puppet(truth)
    with pytest.raises(UserError, match="11 pairs fit before a query of this model, you asked for 12"):
        evaluate_completion(completer, masks, CompletionSetting((1, 12)))
    completer.processor.image_processor.local_fit = "crop"
    with pytest.raises(UserError, match="middle square of a picture only"):
        evaluate_completion(completer, masks, CompletionSetting((1,)))
    with pytest.raises(UserError, match="at least one pair before its query"):
        CompletionSetting((0, 1))
    with pytest.raises(UserError, match="prompt_sets is a number of at least 1"):
        CompletionSetting((1,), prompt_sets=0)
    assert not completer.asked


def test_queries_behind_the_same_pairs_come_together(masks):
    _, completer = evaluate(last, masks, 1, queries=30, prompt_sets=1)
    assert sorted(completer.calls) == [1, 29]


@pytest.mark.parametrize(
    ("text", "groups"),
    [("segmentation:{}/camvid/val.parquet[::9]?foreground=3", 12), ("segmentation:{}/nuclei/dsb-he-val.parquet", 4)],
)
def test_real_pictures(text, groups):
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared data in {SHARED}, which is not here")
    completer = Puppet(truth, side=128)
    setting = CompletionSetting((3,), queries=12, prompt_sets=1, instances=True)
    found = evaluate_completion(completer, shapes(text.format(SHARED)), setting)
    row = found["results"][0]
    assert found["setting"]["sources"] == groups and row["n"] == 12
    assert row["dice"] > 0.9 and row["dice"] > row["references"]["nearest_target"]["dice"]
    assert row["references"]["tokenizer"]["dice"] == row["dice"] and row["aji"] < row["iou"]
