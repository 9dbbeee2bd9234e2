"""Every pipeline on real photographs with the offline models; skipped where pictures or models are absent."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import pipeline

from visual_sentence import LanguageModel, load_language_model
from visual_sentence.image_io import open_image_source
from visual_sentence.language import entry_texts
from visual_sentence.masked_restoration.adapters import AdapterRecord, save_adapter
from visual_sentence.modeling import LocalVocabulary, V2LConfig, V2LImageProcessor, V2LModel
from visual_sentence.pipelines import (
    PIPELINES,
    ImageReconstructionPipeline,
    MaskedImageRestorationPipeline,
    VisualCaptioningPipeline,
    VisualFewShotClassificationPipeline,
    VisualQuestionAnsweringPipeline,
    VisualRestorationPipeline,
)
from visual_sentence.pipelines.inputs import open_picture
from visual_sentence.reconstruction import ImageCodec
from visual_sentence.words import WordFinder

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PROMPTS, SAMPLE = DATA / "visual-prompts", DATA / "imagenet-sample-1000" / "imagenet-sample-1000.parquet"
pytestmark = [pytest.mark.slow, pytest.mark.offline_stack]


@pytest.fixture(scope="module")
def photographs() -> list[str | Image.Image]:
    """Pictures of published prompts, of ImageNet, and one file that is no picture."""
    if not PROMPTS.is_dir() or not SAMPLE.is_file():
        pytest.skip(
            f"needs the pictures in {PROMPTS.name} and {SAMPLE.parent.name}, which are not beside this checkout"
        )
    files = [
        *sorted((PROMPTS / "delvm/examples").glob("*.png"))[:3],
        *sorted((PROMPTS / "seggpt").glob("hmbb_?.jpg"))[:1],
    ]
    pictures = list(open_image_source(f"{SAMPLE}[0:1000:250]"))
    return [*map(str, files), str(PROMPTS / "README.md"), *pictures]


@pytest.fixture(scope="module")
def language_model(offline_models) -> LanguageModel:
    return load_language_model("offline", device="cpu")


@pytest.fixture(scope="module")
def words(offline_models, language_model) -> dict:
    """What pipelines on global words are made of."""
    finder = WordFinder.load("offline", device="cpu")
    return {"model": finder.model, "image_processor": finder.image_processor, "language_model": language_model}


@pytest.fixture(scope="module")
def codec(language_model) -> ImageCodec:
    """A V2L model of random weights, 32 pixels and 4 x 4 tokens, whose codes are the offline language model's words."""
    torch.manual_seed(0)
    texts = entry_texts(language_model.tokenizer)
    sizes = {"image_size": 32, "block_out_channels": [8, 8, 8, 16], "layers_per_block": 1, "norm_num_groups": 4}
    local = {
        "local_codebook_size": len(texts),
        "local_embedding_dim": 8,
        "local_projector": False,
        "latent_channels": 8,
    }
    model = V2LModel(V2LConfig(encoder_type=None, **sizes, **local)).eval()
    model.load_local_codebook(torch.randn(len(texts), 8), LocalVocabulary(texts, "offline"))
    return ImageCodec(model, V2LImageProcessor(local_size=32), "random-v2l")


@pytest.fixture(scope="module")
def local(codec, language_model) -> dict:
    """What pipelines on local words are made of."""
    return {"model": codec.model, "image_processor": codec.image_processor, "language_model": language_model}


def run(pipe, photographs: list, **parameters) -> list[dict]:
    """Answers in batches, the broken file reported in its place."""
    found = list(pipe((picture for picture in photographs), on_error="report", batch_size=4, **parameters))
    assert len(found) == len(photographs)
    broken = photographs.index(str(PROMPTS / "README.md"))
    assert "README.md is not a picture" in found[broken]["error"]
    return found[:broken] + found[broken + 1 :]


def good(photographs: list) -> list:
    return [picture for picture in photographs if picture != str(PROMPTS / "README.md")]


def test_there_is_a_test_for_every_pipeline():
    assert len(PIPELINES) == 7


def test_visual_sentence(photographs):
    complete = pipeline("visual-sentence", device="cpu")  # the model that ships with the package
    shown = [Image.open(picture) if isinstance(picture, str) else picture for picture in good(photographs)[:2]]
    pairs = [(picture.convert("RGB"), picture.convert("L").convert("RGB")) for picture in shown]
    found = run(complete, photographs, pairs=pairs)
    assert all(answer["image"].mode == "RGB" and len(answer["image_tokens"]) == 16 for answer in found)


def test_few_shot_classification(words, photographs):
    classify = VisualFewShotClassificationPipeline(**words, device="cpu")
    shown = good(photographs)
    found = run(classify, photographs, support={"first": shown[:1], "last": shown[-1:]})
    assert all(sum(row["score"] for row in answer) == pytest.approx(1) for answer in found)
    assert all({row["label"] for row in answer} == {"first", "last"} for answer in found)


def test_captioning(words, photographs):
    describe = VisualCaptioningPipeline(**words, device="cpu", num_words=5, max_new_tokens=8)
    examples = list(zip(good(photographs)[:3], ["Some cars.", "Two people.", "A street."], strict=True))
    found = run(describe, photographs, examples=examples, num_examples=2)
    assert all(set(row) == {"generated_text", "words", "copied"} and len(row["words"]) == 5 for row in found)


def test_question_answering(words, photographs):
    ask = VisualQuestionAnsweringPipeline(**words, device="cpu", num_words=5, max_new_tokens=4)
    examples = [(picture, "Is it a car?", "no") for picture in good(photographs)[:2]]
    inputs = [{"image": picture, "question": "What is it?"} for picture in good(photographs)]
    found = list(ask(inputs, examples=examples, batch_size=4))
    assert len(found) == len(inputs) and all(len(row["answer"].split()) <= 1 for row in found)


@pytest.mark.parametrize("task", ["inpainting", "outpainting", "deblurring", "rotation", "shift"])
def test_restoration(task, local, photographs):
    restore = VisualRestorationPipeline(**local, device="cpu")
    examples = [open_picture(picture).rotate(90) for picture in good(photographs)[:2]]
    found = run(restore, photographs, task=task, examples=examples, num_examples=2)
    assert all(row["image"].size == (32, 32) and row["mode"] == "leak-free" for row in found)


def test_masked_restoration(local, codec, language_model, photographs, tmp_path):
    config = language_model.model.config
    record = AdapterRecord((4, 4), 0, 0, 5, codec.fingerprint, "random-v2l", None, "offline", config.vocab_size, 576)
    fresh = load_language_model("offline", device="cpu")
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    save_adapter(get_peft_model(fresh.model, lora), tmp_path / "adapter", record)
    parts = {**local, "language_model": "offline"}  # an adapter changes the model that it is put on
    restore = MaskedImageRestorationPipeline(**parts, adapter=tmp_path / "adapter", device="cpu")
    found = run(restore, photographs, mask_ratio=0.25)
    assert all(row["masked_tokens"] == 4 and row["image"].size == (32, 32) for row in found)


def test_reconstruction(local, photographs):
    found = run(
        ImageReconstructionPipeline(model=local["model"], image_processor=local["image_processor"]), photographs
    )
    assert all(len(row["words"]) == 4 and row["image"].size == (32, 32) for row in found)
