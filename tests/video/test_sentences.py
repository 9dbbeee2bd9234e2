"""Sentences out of videos: the table, its descriptions, and its tokens."""

import json

import numpy as np
import pytest
import torch
from datasets import Image as ImageFeature
from datasets import load_dataset
from PIL import Image

from visual_sentence.captioning import ExamplePool, InContextSetting, InContextWriter, captions_of
from visual_sentence.completion import CompletionModel
from visual_sentence.data.shards import TokenShards, write_shards
from visual_sentence.data.token_rows import SEQUENCE
from visual_sentence.data.tokenizing import token_header
from visual_sentence.errors import UserError
from visual_sentence.modeling import V2LImageProcessor, VQGANConfig, VQGANImageProcessor, VQGANModel
from visual_sentence.video import (
    CaptionDescriber,
    KeyframeSetting,
    SentenceSetting,
    VideoFile,
    WordDescriber,
    load_describer,
    sequence_rows,
    write_sentences,
)
from visual_sentence.video.token_rows import sentence_frames
from visual_sentence.words import WordFinder

COLUMNS = ["image", "time", "shot", "description", "video", "description_kind", "sentence", "index"]
EVERY_SECOND = KeyframeSetting("stride", stride=2)


@pytest.fixture
def finder(make_v2l) -> WordFinder:
    return WordFinder(make_v2l(), V2LImageProcessor(global_size=32))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def rows_of(folder):
    return load_dataset("parquet", data_files=str(folder / "frames.parquet"), split="train")


class Echo(CompletionModel):
    """Writes the last picture's words again."""

    def __init__(self):
        super().__init__("echo", None)

    def complete(self, prompts, max_new_tokens, stop=None):
        return [prompt.rsplit("\n", 1)[-1].split(" ->")[0] for prompt in prompts]

    def log_likelihoods(self, prompts, answers):
        raise AssertionError("captions need none")

    def count_tokens(self, text):
        return None

    def another(self):
        return Echo()


def test_lvms_sentence_is_sixteen_frames_every_eighth(tmp_path, write):
    frames = [np.full((16, 16, 3), place, np.uint8) for place in range(140)]
    written = write_sentences(VideoFile(write(tmp_path / "long.mp4", frames)), tmp_path / "out")
    assert [row["index"] for row in written.frames] == list(range(0, 128, 8)) and written.notes == []
    assert {row["sentence"] for row in written.frames} == {0} and written.description_kind == "none"
    assert written.setting.as_dict()["frames"] == 16 and written.setting.as_dict()["stride"] == 8


def test_the_table_is_a_data_set_of_pictures(levels, tmp_path, finder):
    setting = SentenceSetting(frames=4, sentences=None, keyframes=EVERY_SECOND)
    written = write_sentences(VideoFile(levels), tmp_path / "out", setting, WordDescriber(finder, 2))
    data = rows_of(tmp_path / "out")
    assert data.column_names == COLUMNS and isinstance(data.features["image"], ImageFeature)
    assert data["index"][:] == list(range(0, 24, 2))  # 15 frames: three whole sentences, three frames are left
    assert data["sentence"][:] == [0] * 4 + [1] * 4 + [2] * 4 and set(data["video"]) == {"levels.mp4"}
    assert written.notes == ["The last 3 frames of levels.mp4 do not fill a sentence and are left out."]
    assert set(data["description_kind"]) == {"words"} and data["time"][1] == pytest.approx(0.08)
    for row in data:
        assert abs(np.asarray(row["image"], float).mean() - 8 * row["index"]) < 4
        (found,) = finder.find([row["image"]], 2)
        assert row["description"] == ", ".join(found.words)
    record = json.loads((tmp_path / "out" / "frames.json").read_text())
    assert [frame["description"] for frame in record["frames"]] == data["description"][:]
    assert record["description_kind"] == "words" and "image" not in record["frames"][0]
    assert (tmp_path / "out" / "contact-sheet.png").exists()


@pytest.mark.parametrize(
    ("frames", "sentences", "lengths", "note"),
    [
        (4, 2, [4, 4], None),
        (4, 9, [4, 4, 4], "levels.mp4 gives 3 of the 9 sentences."),
        (20, 1, [15], "levels.mp4 gives 15 of the 20 frames of a sentence."),
    ],
)
def test_how_many_sentences_there_are(levels, tmp_path, frames, sentences, lengths, note):
    setting = SentenceSetting(frames, sentences, EVERY_SECOND)
    written = write_sentences(VideoFile(levels), tmp_path / "out", setting)
    numbers = [row["sentence"] for row in written.frames]
    assert [numbers.count(number) for number in range(len(lengths))] == lengths and len(numbers) == sum(lengths)
    assert (note is None and written.notes == []) or note in written.notes


def test_captions_of_frames(scenes, tmp_path, finder, pictures):
    rows = captions_of([(picture, "A thing.") for picture in pictures])
    pool = ExamplePool(rows, finder, 2, 3)
    describer = CaptionDescriber(pool, InContextWriter(Echo()), InContextSetting(2, 3))
    setting = SentenceSetting(3, keyframes=KeyframeSetting("shots"))
    written = write_sentences(VideoFile(scenes), tmp_path / "out", setting, describer)
    data = rows_of(tmp_path / "out")
    assert data["shot"][:] == [0, 1, 2] and set(data["description_kind"]) == {"caption"}
    for row in written.frames:
        assert len(row["description"].split(", ")) == 2  # what the prompt says of the frame: its two words


def test_what_describes_is_chosen_by_the_examples(v2l_folder, llm_folder, pictures, levels):
    describer = load_describer(str(v2l_folder), num_words=2, device="cpu")
    assert describer.kind == "words" and [len(text.split(", ")) for text in describer.describe(pictures[:2])] == [2, 2]
    rows = captions_of([(picture, "A thing.") for picture in pictures[:3]])
    setting = InContextSetting(2, 2, max_new_tokens=3)
    captions = load_describer(str(v2l_folder), rows, str(llm_folder), None, setting, "float32", "cpu")
    assert captions.kind == "caption" and len(captions.describe(pictures[3:])) == 2


def test_too_few_frames_for_a_sentence(levels, tmp_path):
    video = VideoFile(levels)
    with pytest.raises(UserError, match=r"one frame only \(1 shot\), .* take more frames of each shot"):
        write_sentences(video, tmp_path / "out", SentenceSetting(keyframes=KeyframeSetting("shots")))
    setting = SentenceSetting(keyframes=KeyframeSetting("stride", stride=40))
    with pytest.raises(UserError, match=r"one frame only \(it has 30, one in 40 is taken\), .*smaller stride"):
        write_sentences(video, tmp_path / "out", setting)
    with pytest.raises(UserError, match="ask for 2 or more"):
        SentenceSetting(1)
    assert list(tmp_path.iterdir()) == []


def tiny_vqgan() -> VQGANModel:
    torch.manual_seed(0)
    sizes = {"block_out_channels": [8, 16], "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 4}
    model = VQGANModel(VQGANConfig(image_size=16, codebook_size=32, codebook_dim=8, **sizes)).eval()
    pixels = torch.rand(64, 3, 16, 16) * 2 - 1
    model.fit_codebook(model.encode_pixels(pixels), torch.Generator().manual_seed(0))
    return model


def test_sentences_become_token_rows(levels, scenes, tmp_path):
    for name, path, count in (("a", levels, 4), ("b", scenes, 3)):
        setting = SentenceSetting(count, 2, EVERY_SECOND)
        write_sentences(VideoFile(path), tmp_path / "films" / name, setting)
    model, header = tiny_vqgan(), None
    header = token_header(model)
    rows = list(sequence_rows([tmp_path / "films"], model, batch_size=3))
    assert [(row.task, row.source, row.layout, row.index) for row in rows] == [
        *[("video", "levels.mp4", SEQUENCE, place) for place in (0, 1)],
        *[("video", "scenes.mp4", SEQUENCE, place) for place in (2, 3)],
    ]
    assert [len(row.tokens) // header.tokens_per_image for row in rows] == [4, 4, 3, 3]
    processor = VQGANImageProcessor(local_size=16, local_fit="stretch")
    read = list(sentence_frames(tmp_path / "films" / "a" / "frames.parquet"))
    assert [(video, number, len(frames)) for video, number, frames in read] == [
        ("levels.mp4", 0, 4),
        ("levels.mp4", 1, 4),
    ]
    for place, frame in enumerate(read[1][2]):  # one at a time, as nothing else does it
        tokens = model.encode(processor([frame], return_tensors="pt")["pixel_values"]).image_tokens.flatten()
        start = place * header.tokens_per_image
        assert rows[1].tokens[start : start + header.tokens_per_image].tolist() == tokens.tolist()
    write_shards(tmp_path / "shards", header, rows)
    shards = TokenShards.open(str(tmp_path / "shards"), header)
    assert len(shards) == 4 and shards[2].tokens.tolist() == rows[2].tokens.tolist()


def test_other_tables_are_refused(levels, tmp_path, pictures):
    with pytest.raises(UserError, match=r"holds no frames\.parquet"):
        list(sequence_rows([tmp_path], tiny_vqgan()))
    with pytest.raises(UserError, match="does not exist"):
        list(sequence_rows([tmp_path / "none"], tiny_vqgan()))
    write_sentences(VideoFile(levels), tmp_path / "out", SentenceSetting(2))
    rows_of(tmp_path / "out").remove_columns(["sentence"]).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="has no column sentence"):
        list(sequence_rows([tmp_path / "other.parquet"], tiny_vqgan()))


def test_frames_are_scaled_for_the_table(scenes, tmp_path):
    setting = SentenceSetting(2, keyframes=KeyframeSetting("stride", max_side=32))
    write_sentences(VideoFile(scenes), tmp_path / "out", setting)
    assert {row["image"].size for row in rows_of(tmp_path / "out")} == {(32, 24)}
    assert isinstance(rows_of(tmp_path / "out")[0]["image"], Image.Image)
