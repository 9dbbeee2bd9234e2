"""Tiny joint encoders of every kind, saved the way real ones are: each fixture is a reference to load."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModel,
    BertTokenizer,
    CLIPImageProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
)

from visual_sentence.modeling import ConseConfig, ConseModel, V2LImageProcessor

SENTENCES = ["a photo of a cat on the grass", "two dogs, a boat and the red moon", "cats and trees near the car!"]
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
VISION = {**LAYERS, "image_size": 32, "patch_size": 16}
ARCHITECTURE = "tiny-test-clip"
OPEN_CLIP = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "patch_size": 16, "head_width": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def train_bpe(begin: str | None, **settings) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that ends every text with <eos>, and begins it with `begin` where that is given."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    specials = ["<pad>", "<eos>", *([begin] if begin else [])]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(SENTENCES * 3, trainer)
    template = f"{begin} $A <eos>" if begin else "$A <eos>"
    bpe.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, bpe.token_to_id(token)) for token in specials[1:]]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", eos_token="<eos>", bos_token=begin, **settings
    )


def text_config(tokenizer: PreTrainedTokenizerFast, length: int) -> dict:
    """A text tower's configuration that suits the tokenizer."""
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return {**LAYERS, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": length}


def save_dual_encoder(folder: Path, values: dict, tokenizer: PreTrainedTokenizerFast, image_processor) -> str:
    """Saves a transformers model of random weights with what belongs to it."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(**values)
    model = AutoModel.from_config(config)
    spread(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    return str(folder)


def spread(model: torch.nn.Module) -> None:
    """Widens the weights, so that different inputs give clearly different embeddings."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)


@pytest.fixture(scope="session")
def clip_reference(tmp_path_factory) -> str:
    tokenizer = train_bpe("<bos>")
    values = {"projection_dim": 12, "text_config": text_config(tokenizer, 20), "vision_config": VISION}
    view = CLIPImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32})
    folder = tmp_path_factory.mktemp("encoders") / "clip"
    return save_dual_encoder(folder, {"model_type": "clip", **values}, tokenizer, view)


@pytest.fixture(scope="session")
def siglip_reference(tmp_path_factory) -> str:
    tokenizer = train_bpe(None, model_input_names=["input_ids"])  # SigLIP reads its padding, no mask hides it
    values = {"text_config": {**text_config(tokenizer, 20), "projection_size": 16}, "vision_config": VISION}
    folder = tmp_path_factory.mktemp("encoders") / "siglip"
    view = SiglipImageProcessor(size={"height": 32, "width": 32})
    return save_dual_encoder(folder, {"model_type": "siglip", **values}, tokenizer, view)


@pytest.fixture(scope="session")
def conse_reference(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("encoders") / "conse"
    folder.mkdir()
    tokenizer = train_wordpiece(folder)
    config = ConseConfig(
        classifier_config={
            "model_type": "resnet",
            "embedding_size": 8,
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "layer_type": "basic",
            "num_labels": 6,
        },
        text_config={"model_type": "bert", **LAYERS, "vocab_size": len(tokenizer), "max_position_embeddings": 40},
        embedding_dim=16,
        top_labels=3,
        label_ids=["n0", "n1", "n2", "n3", "n4", "n5"],
        label_words=["motorcycle"],
    )
    torch.manual_seed(0)
    model = ConseModel(config).eval()
    spread(model)
    model.label_embeddings.copy_(torch.nn.functional.normalize(torch.randn(6, 16), dim=-1))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    V2LImageProcessor(global_size=32).save_pretrained(folder)
    return str(folder)


def train_wordpiece(folder: Path) -> BertTokenizer:
    """BERT's kind of tokenizer: whole words of the sentences, and letters to spell all others with."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = sorted({word.strip(",!") for sentence in SENTENCES for word in sentence.split()} - set(letters))
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters, *(f"##{letter}" for letter in letters)]
    path = folder / "vocab.txt"
    path.write_text("\n".join(entries))
    tokenizer = BertTokenizer.from_pretrained(folder, model_max_length=40)
    path.unlink()
    return tokenizer


@pytest.fixture(scope="session")
def open_clip_weights(tmp_path_factory) -> Path:
    """A weights file of a tiny architecture that open_clip is told of."""
    folder = tmp_path_factory.mktemp("open_clip")
    (folder / f"{ARCHITECTURE}.json").write_text(json.dumps(OPEN_CLIP))
    open_clip.add_model_config(folder / f"{ARCHITECTURE}.json")
    torch.manual_seed(0)
    model = open_clip.CLIP(**OPEN_CLIP)
    spread(model)
    save_file(model.state_dict(), folder / "weights.safetensors")
    return folder / "weights.safetensors"


@pytest.fixture(scope="session")
def open_clip_file_reference(open_clip_weights) -> str:
    return f"open_clip:{ARCHITECTURE}@{open_clip_weights}"


@pytest.fixture(scope="session")
def open_clip_folder_reference(open_clip_weights, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("open@clip")
    view = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bilinear", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP, "preprocess_cfg": view}))
    (folder / "open_clip_model.safetensors").write_bytes(open_clip_weights.read_bytes())
    return f"open_clip:local-dir:{folder}"
