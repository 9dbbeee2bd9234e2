"""SegGPT behind the completer's interface, with tiny models of random weights."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SegGptConfig, SegGptForImageSegmentation, SegGptImageProcessor

from visual_sentence.data import parse_task_data
from visual_sentence.errors import UserError
from visual_sentence.sentence_completion import CompletionSetting, Question, SentenceCompleter, evaluate_completion
from visual_sentence.sentence_completion.seggpt import SegGptCompleter, load_completer
from visual_sentence_cli import main

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SIDE = 16


@pytest.fixture
def seggpt_folder(tmp_path) -> Path:
    """A saved SegGPT of 4 layers: 16 px pictures, a pair above its query."""
    torch.manual_seed(0)
    config = SegGptConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=(2 * SIDE, SIDE),
        patch_size=4,
        pretrain_image_size=SIDE,
        decoder_hidden_size=8,
        merge_index=1,
        intermediate_hidden_state_indices=(2, 3),
        initializer_range=0.5,  # wide weights, so that what is painted depends on what is seen
    )
    folder = tmp_path / "seggpt"
    SegGptForImageSegmentation(config).save_pretrained(folder)
    SegGptImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


@pytest.fixture
def completer(seggpt_folder) -> SegGptCompleter:
    return load_completer(seggpt_folder, "cpu")


def picture(seed: int, size: tuple[int, int] = (20, 12)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def disc(seed: int, size: tuple[int, int] = (20, 12)) -> Image.Image:
    """A round mask that no other seed gives."""
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    inside = np.hypot(rows - 2 - seed % 7, columns - 4 - 2 * (seed % 5)) < 4
    return Image.fromarray(inside.astype(np.uint8) * 255).convert("RGB")


def pairs(*seeds: int) -> list[tuple[Image.Image, Image.Image]]:
    return [(picture(seed), disc(seed)) for seed in seeds]


@torch.no_grad()
def test_one_pair_is_what_transformers_paints(completer, seggpt_folder):
    (image, mask), query = pairs(1)[0], picture(2, (30, 18))
    (answer,) = completer.complete([Question([(image, mask)], query)])
    model = SegGptForImageSegmentation.from_pretrained(seggpt_folder).eval()
    processor = SegGptImageProcessor.from_pretrained(seggpt_folder)
    inputs = processor(images=query, prompt_images=image, prompt_masks=mask, do_convert_rgb=False, return_tensors="pt")
    (levels,) = processor.post_process_semantic_segmentation(model(**inputs))  # the mean of R, G and B, 0 to 255
    painted = answer.pixel_values.add(1).mul(127.5).mean(0)
    assert answer.pixel_values.shape == (3, SIDE, SIDE) and painted.std() > 10
    assert (painted - levels).abs().max() <= 1.001  # transformers cuts the fraction off
    assert answer.image.size == (30, 18) and answer.mask.shape == (18, 30) and answer.mask.dtype == bool
    assert np.array_equal(answer.mask, np.asarray(answer.image, float).mean(2) > 127.5)
    assert np.array_equal(np.asarray(answer.painted) > 127, answer.mask)


def test_what_stands_in_the_pairs_decides(completer):
    query = picture(9)
    asked = [
        Question(pairs(1), query),
        Question([(picture(1), disc(2))], query),
        Question([(picture(2), disc(1))], query),
        Question(pairs(1, 2, 3), query),
        Question(pairs(1), picture(8)),
    ]
    answers = completer.complete(asked, batch_size=2)
    for place, answer in enumerate(answers):
        for other in answers[:place]:
            assert (answer.pixel_values - other.pixel_values).abs().max() > 0.01
    again = [completer.complete([question])[0] for question in asked]
    for first, second in zip(answers, again, strict=True):  # each as if it were alone
        assert torch.allclose(first.pixel_values, second.pixel_values, atol=1e-4)


def test_an_ensemble_of_equal_pairs_is_one_pair(completer):
    once, twice, thrice = completer.complete([Question(pairs(1) * count, picture(9)) for count in (1, 2, 3)])
    assert torch.allclose(once.pixel_values, twice.pixel_values, atol=1e-4)
    assert torch.allclose(once.pixel_values, thrice.pixel_values, atol=1e-4)


def test_the_evaluation_takes_it(completer):
    data = parse_task_data("segmentation:shapes[:12]?size=32")
    found = evaluate_completion(completer, data, CompletionSetting(pairs=(1, 3), queries=3, prompt_sets=1))
    assert [row["pairs"] for row in found["results"]] == [1, 3]
    for row in found["results"]:
        assert 0 <= row["dice"] < 1 and row["n"] == 3
        assert row["references"]["tokenizer"]["dice"] > 0.7  # the masks at 16 pixels


def test_other_tasks_are_refused(completer):
    with pytest.raises(UserError, match=r"answers with masks, .* not black and white: take a task of masks"):
        evaluate_completion(
            completer, parse_task_data("denoising:shapes[:6]?size=32"), CompletionSetting((1,), 2, prompt_sets=1)
        )
    with pytest.raises(UserError, match="not black and white"):
        completer.complete([Question([(picture(1), picture(2))], picture(3))])


@pytest.mark.parametrize(
    ("question", "options", "message"),
    [
        (Question([], picture(1)), {}, "There is no pair"),
        (Question(pairs(1), None), {}, "There is no query"),
        (Question(pairs(1), picture(2), disc(3), (0,)), {}, "cannot go on with a partial answer"),
        (Question(pairs(1), "query.png"), {}, "is a path: open the picture first"),
        (
            Question(pairs(1), picture(2)),
            {"num_candidates": 4, "do_sample": True},
            "do_sample, num_candidates would change nothing",
        ),
    ],
)
def test_mistakes(completer, question, options, message):
    with pytest.raises(UserError, match=message):
        completer.complete([question], **options)


def test_parts_that_do_not_belong_together(seggpt_folder, simlvm_folder):
    assert isinstance(load_completer(simlvm_folder, "cpu"), SentenceCompleter)
    with pytest.raises(UserError, match="is a simlvm model, not SegGPT"):
        SegGptCompleter.load(simlvm_folder, "cpu")
    with pytest.raises(UserError, match="no embedding type 'thing'"):
        SegGptCompleter.load(seggpt_folder, "cpu", "thing")
    SegGptImageProcessor().save_pretrained(seggpt_folder)
    with pytest.raises(UserError, match="makes pictures of 448 x 448 pixels, but the model reads 16 x 16"):
        load_completer(seggpt_folder, "cpu")
    (seggpt_folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="is a folder, but not a model that can be loaded"):
        load_completer(seggpt_folder, "cpu")
    with pytest.raises(UserError, match="found nothing there"):
        load_completer(seggpt_folder / "nothing", "cpu")


def test_the_kinds_of_mask_differ(seggpt_folder):
    question = Question(pairs(1), picture(2))
    answers = [
        SegGptCompleter.load(seggpt_folder, "cpu", kind).complete([question])[0] for kind in ("instance", "semantic")
    ]
    assert not torch.allclose(answers[0].pixel_values, answers[1].pixel_values, atol=1e-3)


def test_the_command_takes_it(seggpt_folder, monkeypatch, capsys):
    # in a process of its own the command sets this before the library reads it
    monkeypatch.setattr("transformers.utils.logging._tqdm_active", False)
    words = ["evaluate", "completion", "--model", str(seggpt_folder), "--data", "segmentation:shapes[:12]?size=32"]
    few = ["--pairs", "1,3", "--queries", "2", "--prompt-sets", "1", "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["visual-sentence", *words, *few, "--json"])
    with pytest.raises(SystemExit) as exit_info:
        main()
    out, err = capsys.readouterr()
    assert not exit_info.value.code, err
    assert [row["pairs"] for row in json.loads(out)["results"]] == [1, 3]
    monkeypatch.setattr("sys.argv", ["visual-sentence", *words, *few, "--candidates", "4"])
    with pytest.raises(SystemExit) as exit_info:
        main()
    out, err = capsys.readouterr()
    assert exit_info.value.code == 2 and err.count("\n") == 1 and "paints one answer" in err


def test_published_example_pictures(completer):
    folder = SHARED / "visual-prompts" / "seggpt"
    if not folder.is_dir():
        pytest.skip(f"needs SegGPT's example pictures in {folder}, which are not here")
    solved = [
        SimpleNamespace(input=Image.open(folder / f"{name}.jpg"), target=Image.open(folder / f"{name}_target.png"))
        for name in ("hmbb_1", "hmbb_2")
    ]
    query = Image.open(folder / "hmbb_3.jpg")
    one, two = completer.complete([Question(solved[:1], query), Question(solved, query)])
    assert one.mask.shape == two.mask.shape == (400, 700)
    assert not torch.allclose(one.pixel_values, two.pixel_values, atol=1e-3)
