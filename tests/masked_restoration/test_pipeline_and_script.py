"""The pipeline and the script: masks of both kinds, batches, adapters in a folder, and good refusals."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visual_sentence.errors import UserError
from visual_sentence.image_io import open_image
from visual_sentence.masked_restoration import masked_patches
from visual_sentence.pipelines.masked_restoration import MaskedImageRestorationPipeline

from ..conftest import free_port
from ..forked import ForkedGroup

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "finetune_lm_lora.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1"}
SHORT = ("--max-steps", "2", "--batch-size", "4", "--log-every", "1", "--tracker", "none")


@pytest.fixture
def adapter(codec_folder, llm_folder, picture_folder, tmp_path) -> Path:
    """An adapter with two global words, written in this process by what the script calls."""
    from visual_sentence.masked_restoration.command import tune_from_command_line

    arguments = ["--model", codec_folder, "--llm", llm_folder, "--data", picture_folder, "--words", 2]
    arguments += ["--output", tmp_path / "tuned", "--learning-rate", "0.05", *SHORT]
    assert tune_from_command_line("tunes", [str(argument) for argument in arguments]) == 0
    return tmp_path / "tuned" / "adapter"


@pytest.fixture
def restore(make_codec, llm_folder, adapter) -> MaskedImageRestorationPipeline:
    codec = make_codec()
    return MaskedImageRestorationPipeline(
        model=codec.model,
        image_processor=codec.image_processor,
        language_model=str(llm_folder),
        adapter=adapter,
        device="cpu",
    )


@pytest.fixture
def shown(picture_folder) -> list[Image.Image]:
    return [open_image(path) for path in sorted(picture_folder.iterdir())]


def test_a_share_of_tokens_is_masked_and_restored(restore, shown):
    found = restore(shown[0], mask_ratio=0.5, seed=3)
    assert found["masked_tokens"] == 8 and sum(map(sum, found["known"])) == 8
    assert [found[name].size for name in ("image", "masked", "original")] == [(16, 16)] * 3
    tokens = restore.codec.encode([shown[0]]).image_tokens[0]
    kept = torch.tensor(found["known"])
    assert torch.tensor(found["image_tokens"])[kept].equal(tokens[kept])
    assert np.array_equal(found["original"], restore.codec.views([shown[0]])[0])


def test_one_picture_and_batches_agree(restore, shown):
    expected = [restore(picture)["image_tokens"] for picture in shown[:5]]
    for batch_size in (1, 2, 5):
        found = restore((picture for picture in shown[:5]), batch_size=batch_size)
        assert [row["image_tokens"] for row in found] == expected


def test_a_mask_takes_its_patches_away(restore, shown):
    mask = Image.new("L", shown[0].size, 0)
    width, height = mask.size
    mask.paste(255, (width // 2, 0, width, height // 2))
    found = restore({"image": shown[0], "mask": mask})
    known = np.array(found["known"])
    assert known[2:].all() and known[:, 0].all() and not known[0, 3] and found["masked_tokens"] == (~known).sum()
    mixed = restore([{"image": shown[0], "mask": mask}, shown[1]], batch_size=2, mask_ratio=0.25)
    assert mixed[0]["image_tokens"] == found["image_tokens"]
    assert mixed[1]["masked_tokens"] == 4


def test_patches_by_hand():
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 2] = 255
    mask[3, 5] = 127  # too dark to count
    assert masked_patches(Image.fromarray(mask), (2, 3)).tolist() == [[False, True, False], [False, False, False]]


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (Image.new("L", (3, 3)), "The mask is 3 x 3 pixels and its picture 24 x 20"),
        (Image.new("L", (24, 20), 255), "covers the whole picture"),
    ],
    ids=["size", "all"],
)
def test_wrong_masks_are_refused(mask, found, restore, shown):
    with pytest.raises(UserError, match=found):
        restore({"image": shown[0], "mask": mask})
    line = restore([{"image": shown[0], "mask": mask}, shown[1]], on_error="report")
    assert found in line[0]["error"] and "image" in line[1]


def test_an_adapter_of_another_model_is_refused(make_codec, llm_folder, adapter, shown):
    codec = make_codec(seed=1)
    parts = {"model": codec.model, "image_processor": codec.image_processor, "language_model": str(llm_folder)}
    with pytest.raises(UserError, match="was tuned on the tokens of v2l"):
        MaskedImageRestorationPipeline(**parts, adapter=adapter, device="cpu")(shown[0])
    with pytest.raises(UserError, match="is a language model that was not tuned on pictures"):
        MaskedImageRestorationPipeline(**parts, device="cpu")(shown[0])


def test_words_need_a_tower(make_codec, llm_folder, adapter, shown):
    tower, codec = make_codec(), make_codec(tower=False)
    own = codec.model.state_dict()
    codec.model.load_state_dict({name: tensor for name, tensor in tower.model.state_dict().items() if name in own})
    restore = MaskedImageRestorationPipeline(
        model=codec.model,
        image_processor=codec.image_processor,
        language_model=str(llm_folder),
        adapter=adapter,
        device="cpu",
    )
    with pytest.raises(UserError, match="2 global words are wanted"):
        restore(shown[0])


def test_the_sequences_of_an_earlier_run_are_read_back(codec_folder, llm_folder, picture_folder, adapter, capsys):
    from visual_sentence.masked_restoration.command import tune_from_command_line

    (written,) = adapter.parent.glob("sequences-*.safetensors")
    before = written.stat().st_mtime_ns
    arguments = ["--model", codec_folder, "--llm", llm_folder, "--data", picture_folder, "--words", 2]
    again = [*arguments, "--output", adapter.parent, "--learning-rate", "0.05", *SHORT]
    assert tune_from_command_line("tunes", [str(argument) for argument in [*again, "--resume", "latest"]]) == 0
    assert written.stat().st_mtime_ns == before
    assert tune_from_command_line("tunes", [str(argument) for argument in again]) == 2
    assert "--resume latest" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_the_script_in_two_processes(codec_folder, llm_folder, picture_folder, tmp_path):
    words = ["--model", codec_folder, "--llm", llm_folder, "--data", picture_folder, "--words", 0]
    words += ["--output", tmp_path / "two", *SHORT]
    group = ForkedGroup(2, free_port(), SCRIPT, [str(word) for word in words], ENVIRONMENT)
    out, err = group.communicate(timeout=300)
    assert group.returncode == 0, err[-2000:]
    assert "finished after 2 steps, 16 images" in out
    assert "2 process(es)" in err and (tmp_path / "two/adapter/adapter_model.safetensors").is_file()
