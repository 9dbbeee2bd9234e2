"""Fixtures for all tests: tiny models of every kind, pictures, and whether the real offline models are there."""

import os

# before any library reads them: tests never touch the network
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import io
import socket
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    dynamic_module_utils,
)

import visual_sentence  # noqa: F401  (registers the model types)
from visual_sentence.modeling import V2LConfig, V2LImageProcessor, V2LModel, V2LProcessor, WordVocabulary
from visual_sentence.offline import OFFLINE_PACKAGES

TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 99}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
TEXT_IDS = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
TOWERS = {
    "clip": (
        "transformers",
        {"model_type": "clip", "projection_dim": 16, "text_config": {**TEXT, **TEXT_IDS}, "vision_config": VISION},
    ),
    "siglip": (
        "transformers",
        {"model_type": "siglip", "text_config": {**TEXT, **TEXT_IDS}, "vision_config": VISION},
    ),
    "open_clip": (
        "open_clip",
        {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8},
            "text_cfg": {"context_length": 16, "vocab_size": 99, "width": 16, "heads": 2, "layers": 1},
        },
    ),
    "conse": (
        "conse",
        {
            "model_type": "conse",
            "classifier_config": {
                "model_type": "resnet",
                "embedding_size": 8,
                "hidden_sizes": [8, 16],
                "depths": [1, 1],
                "layer_type": "basic",
                "num_labels": 6,
            },
            "embedding_dim": 16,
            "top_labels": 3,
            "label_ids": ["n0", "n1", "n2", "n3", "n4", "n5"],
        },
    ),
}

# What the small tokenizers learn their vocabulary from.
VOCAB_SIZE = 420
CORPUS = [
    "The words describe a photo. The photo shows one of: goldfish, French bulldog, dog, dog sled.\n\n",
    "Words: fishes, gold, aquarium, puppy, canine, winter, snow\nThe photo shows: goldfish\n\n",
    "For each of the following input-output pairs, output is one of. Input: fishes gold, output: dog.",
    "###\nInput: < fishesgold >\nOutput: French_bulldog###\nInput: < canine >\nOutput: dog_sled N/A",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that of several processes none is left alone with them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def free_port() -> int:
    """A port that nothing listens on, for processes that find each other by it."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def modules_cache(tmp_path, monkeypatch) -> Iterator[Path]:
    """A cache of its own for code that comes with models; none of it is imported before, or afterwards any more."""
    place = tmp_path / "modules"
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(place))
    monkeypatch.syspath_prepend(str(place))
    forget_modules()
    yield place
    forget_modules()


def forget_modules() -> None:
    """Takes code that came with models out of the modules that are imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def vocabulary() -> WordVocabulary:
    words = ["cat", "cats", "dog", "dogs", "tree", "car", "boat", "sky", "red", "green", "moon", "sun"]
    groups = [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    token_ids = [[index, index + 100] for index in range(len(words))]
    return WordVocabulary(words, token_ids, ["subword"] * len(words), groups, {"language_model": "tiny"})


@pytest.fixture
def make_v2l(vocabulary):
    """Builds a tiny V2L model with the tower of that name."""

    def make(tower: str = "clip") -> V2LModel:
        torch.manual_seed(0)
        encoder_type, encoder_config = TOWERS[tower]
        config = V2LConfig(encoder_type, encoder_config, embedding_dim=16, num_words=12, num_global_tokens=3)
        model = V2LModel(config).eval()
        model.load_codebook(torch.nn.functional.normalize(torch.randn(12, 16)), torch.zeros(16), vocabulary)
        return model

    return make


@pytest.fixture
def picture() -> Image.Image:
    """A picture of 40 x 60 pixels in which every pixel tells where it is."""
    rows, columns = np.mgrid[0:40, 0:60]
    return Image.fromarray(np.stack([rows * 6, columns * 4, rows + columns], axis=-1).astype(np.uint8))


@pytest.fixture
def pictures() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(5)]


@pytest.fixture(scope="session")
def offline_models():
    """Skips where the packages with the real weights are not installed."""
    missing = [package.name for package in OFFLINE_PACKAGES if not package.is_installed]
    if missing:
        pytest.skip(f"needs the offline models: {', '.join(missing)} not installed (visual-sentence offline install)")


@pytest.fixture
def good_files(tmp_path) -> dict[str, Path]:
    """Unusual pictures that must work: kind -> file."""
    folder = tmp_path / "good"
    folder.mkdir()
    rows, columns = np.mgrid[0:20, 0:30]
    color = Image.fromarray(np.stack([rows * 12, columns * 8, rows + columns], axis=-1).astype(np.uint8))
    frames = [Image.new("RGB", (30, 20), name) for name in ("red", "blue")]
    kinds = {
        "plain": (color, "plain.jpg", {}),
        "one-pixel": (color.crop((0, 0, 1, 1)), "one.png", {}),
        "sixteen-bit": (Image.fromarray(np.full((20, 30), 32768, np.uint16)), "deep.png", {}),
        "cmyk": (color.convert("CMYK"), "print.jpg", {}),
        "palette": (color.convert("P", palette=Image.Palette.ADAPTIVE), "palette.png", {}),
        "see-through": (Image.new("RGBA", (30, 20), (10, 20, 30, 0)), "clear.png", {}),
        "animated": (frames[0], "moving.gif", {"save_all": True, "append_images": frames[1:]}),
    }
    for picture, name, arguments in kinds.values():
        picture.save(folder / name, **arguments)
    return {kind: folder / name for kind, (_, name, _) in kinds.items()}


@pytest.fixture
def bad_files(tmp_path) -> dict[str, tuple[Path, str, str]]:
    """What is no picture that can be read: kind -> (file, what the message must say was found, and to do)."""
    folder = tmp_path / "bad"
    folder.mkdir()
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "jpeg")
    contents = {
        "text": ("notes.png", b"this is only text\n", "look like text", "give a JPEG"),
        "binary": ("tool.jpg", bytes(range(256)), "are of no known picture format", "give a JPEG"),
        "empty": ("empty.png", b"", "the file is empty", "give a JPEG"),
        "truncated": ("cut.jpg", whole.getvalue()[:700], "damaged or cut off", "fetch or export it again"),
        "huge": ("huge.png", huge_png(), "claims a size beyond", "scale it down"),
    }
    for name, content, _, _ in contents.values():
        (folder / name).write_bytes(content)
    (folder / "album.png").mkdir()
    return {
        **{kind: (folder / name, found, remedy) for kind, (name, _, found, remedy) in contents.items()},
        "missing": (folder / "missing.png", "no such file", "check the path"),
        "folder": (folder / "album.png", "is a folder", "name the pictures in it"),
    }


def huge_png() -> bytes:
    """A PNG of a few bytes that claims to be 40,000 pixels wide and high."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    content = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


@pytest.fixture
def class_folders(pictures, tmp_path) -> Path:
    """A support folder: two classes, one of them with one picture only."""
    folder = tmp_path / "support"
    for index, name in enumerate(["french_bulldog/0.png", "french_bulldog/1.png", "goldfish/0.png"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pictures[index].save(folder / name)
    return folder


@pytest.fixture
def v2l_folder(make_v2l, tmp_path) -> Path:
    """A saved V2L model of random weights."""
    folder = tmp_path / "v2l-model"
    make_v2l().save_pretrained(folder)
    V2LProcessor(V2LImageProcessor(global_size=32)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llm_folder(tmp_path_factory) -> Path:
    """A saved language model of random weights with a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("llm")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["Words: cat, dog, tree\nThe photo shows: goldfish, french bulldog\n"], trainer)
    PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bpe_tokenizer():
    """Byte-level BPE without a begin token, as GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


@pytest.fixture(scope="session")
def metaspace_tokenizer():
    """As LLaMA's sentencepiece: spaces as ▁, one put before the text, and a begin token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=[chr(code) for code in range(32, 127)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def _llama_like(config_class, model_class, **settings):
    torch.manual_seed(0)
    config = config_class(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        # Wide weights make confident models, whose choices do not hang on the last digit.
        initializer_range=0.3,
        **settings,
    )
    return model_class(config).eval()


@pytest.fixture(scope="session")
def llama():
    return _llama_like(LlamaConfig, LlamaForCausalLM, max_position_embeddings=1024)


@pytest.fixture(scope="session")
def mistral():
    """Attends to the last 12 tokens only, far fewer than a prompt has."""
    return _llama_like(MistralConfig, MistralForCausalLM, sliding_window=12, max_position_embeddings=1024)


@pytest.fixture(scope="session")
def gpt2():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCAB_SIZE, n_embd=32, n_layer=2, n_head=4, n_positions=1024, initializer_range=0.3)
    return GPT2LMHeadModel(config).eval()
