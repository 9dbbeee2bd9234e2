"""What the pages' commands name: made-up pictures, pairs and tables, and tiny models in the places of the real ones."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, List, Value
from datasets import Image as Picture
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPImageProcessor, pipeline

from visual_sentence import shipped
from visual_sentence.language import entry_texts, load_text_tokenizer
from visual_sentence.modeling import (
    LocalVocabulary,
    SimLVMConfig,
    SimLVMForVisualSentence,
    SimLVMProcessor,
    V2LConfig,
    V2LImageProcessor,
    V2LModel,
    V2LProcessor,
    VQGANConfig,
    VQGANImageProcessor,
    VQGANModel,
    WordVocabulary,
)
from visual_sentence.offline.cache import HOME_VARIABLE, fingerprint, model_folder

from .data.voc_tree import mask, write_voc

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("photos", "photos/cat", "photos/dog", "other-photos", "others", "queries", "imagenet/train", "imagenet/val")
# Captions ask for 21.
WORDS = [
    *("cat", "dog", "tree", "car", "boat", "sky", "red", "green", "moon", "sun", "bird", "fish", "house", "road"),
    *("hill", "lake", "rain", "snow", "rose", "corn", "bee", "fox", "owl", "hat"),
]
PICTURES = [
    *("photo.jpg", "new.jpg", "new1.jpg", "new2.jpg", "blurred.jpg", "a.jpg", "b.jpg", "c.jpg"),
    *("cat.png", "a.png", "b.png", "c.png", "d.png", "e.png", "new.png", "1.png", "2.png"),
]
LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
CLIP = {
    "model_type": "clip",
    "projection_dim": 16,
    "text_config": {**LAYERS, "vocab_size": 99, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
    "vision_config": {**LAYERS, "image_size": 32, "patch_size": 16},
}
SIZES = {"image_size": 16, "block_out_channels": [8, 8, 16], "layers_per_block": 1, "norm_num_groups": 4}
VQGAN = {**SIZES, "latent_channels": 8, "codebook_size": 40, "codebook_dim": 8}
LLAMA = {
    "model_type": "llama",
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.5,
}
# The papers' language model and encoder, as folders of the same names.
PAPERS = {"meta-llama/Llama-2-7b-hf": "llm", "openai/clip-vit-large-patch14": "clip"}
# Folder of a page -> the model that is put there, for pages that take it from another page.
PREPARED: dict[str, dict[str, str]] = {
    "README.md": {"model": "v2l"},
    "docs/baselines.md": PAPERS,
    "docs/codebook.md": PAPERS,
    "docs/conversion.md": {"vqgan": "vqgan", "out/v2l/model": "v2l"},
    "docs/getting_started.md": {"HuggingFaceTB/SmolLM2-1.7B": "llm", "openai/clip-vit-large-patch14": "clip"},
    "docs/howto/convert.md": {"vqgan-muse": "vqgan", "v2l": "v2l", "lvm": "lvm"},
    "docs/howto/llama_clip.md": {**PAPERS, "out/v2l/model": "v2l"},
    "docs/howto/publish.md": {"out/v2l/model": "v2l", "out/simlvm/model": "simlvm"},
    "docs/masked_restoration.md": {"v2l/model": "v2l"},
    "docs/pipelines.md": {"out/v2l/model": "v2l"},
    "docs/reconstruction.md": {"out/model": "v2l"},
    "docs/restoration.md": {"out/model": "v2l"},
    "docs/simlvm.md": {"out/vqgan/model": "vqgan", "out/large/model": "lvm", "lvm-7b": "lvm"},
    "docs/token_shards.md": {"out/vqgan/model": "vqgan", "vqgan": "vqgan"},
    "docs/visual_sentences_evaluation.md": {"out/simlvm": "simlvm"},
    "docs/howto/finetune.md": {"vqgan": "vqgan", "lvm": "lvm"},
    "docs/howto/distil.md": {"out/vqgan/model": "vqgan", "out/large/model": "lvm"},
    "docs/howto/evaluate.md": {"out/v2l/model": "v2l"},
    "docs/security.md": {"model": "v2l", "lvm": "lvm"},
    "docs/video.md": {"vqgan": "vqgan"},
    "docs/visual_sentences.md": {"out/simlvm": "simlvm"},
}
# Page -> names that its Python blocks take as given.
NAMES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "README.md": lambda folder: {"folder": folder / "model"},
    "docs/conversion.md": lambda folder: torch.save({"state_dict": {"a": torch.ones(1)}}, folder / "last.ckpt") or {},
    "docs/metrics.md": lambda folder: {"batches": [(torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16))]},
    "docs/pipelines.md": lambda folder: {
        "reconstruct": pipeline("image-reconstruction", model=str(folder / "out/v2l/model")),
        "paths": [folder / "photo.jpg", folder / "missing.jpg"],
    },
    "docs/restoration.md": lambda folder: (
        dict.fromkeys(("blurred_maps", "clean_maps"), token_maps(12)) | {"maps": token_maps(1)}
    ),
    "docs/token_shards.md": lambda folder: {
        "model": SimpleNamespace(vqgan=VQGANModel.from_pretrained(folder / "vqgan"))
    },
    "docs/visual_sentences_evaluation.md": lambda folder: dict.fromkeys(
        ("images", "targets"), torch.rand(2, 3, 16, 16)
    ),
    "docs/security.md": lambda folder: {
        "complete": pipeline("visual-sentence"),
        "pairs": [("a.png", "a_mask.png")],
        "uploaded_bytes": (folder / "b.png").read_bytes(),
    },
}


def noise(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A picture that no other seed gives."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def blob(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A black and white mask."""
    generator, mask = np.random.default_rng(seed), np.zeros(size[::-1], np.uint8)
    top, left = generator.integers(2, 20, 2)
    mask[top : top + 15, left : left + 20] = 255
    return Image.fromarray(mask)


def token_maps(count: int) -> torch.Tensor:
    """[count, 4, 4] token ids of a small vocabulary."""
    return torch.randint(1, 40, (count, 4, 4))


def spread(model: torch.nn.Module, quantizer: torch.nn.Module) -> None:
    """Codes lie where latents do, so that different pictures take different ones."""
    with torch.no_grad():
        latents = model.encode_pixels(torch.rand(40, 3, 16, 16) * 2 - 1).permute(0, 2, 3, 1).flatten(0, 2)
        quantizer.codebook.copy_(latents[torch.randperm(len(latents))[: len(quantizer.codebook)]])


class Stage:
    """The models and data of all pages, made once.

    Args:
        folder: Where they are put.
        llm: A language model's folder.
    """

    def __init__(self, folder: Path, llm: Path):
        self.models, self.data, self.home = folder / "models", folder / "data", folder / "home"
        self.llm = self.models / "llm"
        shutil.copytree(llm, self.llm)
        config = json.loads((self.llm / "config.json").read_text(encoding="utf-8"))
        config["max_position_embeddings"] = 8192  # ten examples of words that are spelt
        (self.llm / "config.json").write_text(json.dumps(config), encoding="utf-8")
        torch.manual_seed(0)
        self.make_models()
        self.make_data()
        self.home.mkdir()
        (self.home / model_folder("encoder").name).symlink_to(model_folder("encoder"))
        self.make_offline_v2l(model_folder("v2l"), self.home / model_folder("v2l").name)
        (self.home / f"offline-language-model-{fingerprint('language-model')}").symlink_to(self.llm)

    def make_models(self) -> None:
        """A VQGAN, a V2L model with both halves whose local words are the language model's, and a SimLVM."""
        texts = entry_texts(load_text_tokenizer(str(self.llm)))
        config = V2LConfig(
            encoder_config=CLIP,
            **SIZES,
            embedding_dim=16,
            num_words=len(WORDS),
            num_global_tokens=3,
            local_codebook_size=len(texts),
            local_embedding_dim=8,
            local_projector=False,
            latent_channels=8,
        )
        v2l = V2LModel(config).eval()
        numbers = list(range(len(WORDS)))
        words = WordVocabulary(
            WORDS,
            [[number] for number in numbers],
            ["subword"] * len(WORDS),
            numbers,
            {"language_model": str(self.llm)},
        )
        v2l.load_codebook(torch.nn.functional.normalize(torch.randn(len(WORDS), 16)), torch.zeros(16), words)
        spread(v2l, v2l.local_quantizer)
        v2l.set_local_vocabulary(LocalVocabulary(texts, str(self.llm)))
        v2l.save_pretrained(self.models / "v2l")
        V2LProcessor(V2LImageProcessor(local_size=16, global_size=32)).save_pretrained(self.models / "v2l")

        vqgan = VQGANModel(VQGANConfig(**VQGAN)).eval()
        spread(vqgan, vqgan.quantizer)
        vqgan.save_pretrained(self.models / "vqgan")
        VQGANImageProcessor(local_size=16, local_fit="stretch").save_pretrained(self.models / "vqgan")

        for name, images in (("simlvm", 12), ("lvm", 16)):
            simlvm = SimLVMForVisualSentence(SimLVMConfig(vq_config=VQGAN, text_config=LLAMA, max_images=images)).eval()
            simlvm.vqgan.load_state_dict(vqgan.state_dict())
            simlvm.save_pretrained(self.models / name)
            view = VQGANImageProcessor(local_size=16, local_fit="stretch")
            processor = SimLVMProcessor(view, tokens_per_image=16, max_images=images)
            processor.save_pretrained(self.models / name)
        self.make_encoder()

    def make_offline_v2l(self, real: Path, folder: Path) -> None:
        """The real image tower, which is small, with its words spelt by the tiny language model."""
        shutil.copytree(real, folder)
        tokenizer = load_text_tokenizer(str(self.llm))
        words = WordVocabulary.load(folder / "codebook.json")
        spelt = [tokenizer.encode(word, add_special_tokens=False) for word in words.words]
        dataclasses.replace(words, token_ids=spelt).save(folder)

    def make_encoder(self) -> None:
        """A CLIP of both towers, with a tokenizer."""
        tokenizer = AutoTokenizer.from_pretrained(self.llm)
        tokenizer.pad_token = tokenizer.eos_token
        text = {**CLIP["text_config"], "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
        config = AutoConfig.for_model(**{**CLIP, "text_config": {**text, "max_position_embeddings": 77}})
        AutoModel.from_config(config).save_pretrained(self.models / "clip")
        tokenizer.save_pretrained(self.models / "clip")
        size = {"height": 32, "width": 32}
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(self.models / "clip")

    def make_data(self) -> None:
        """Pictures, pairs and tables, under the names that the pages give them."""
        self.data.mkdir()
        for place, name in enumerate(PICTURES):
            noise(place).save(self.data / name)
        for place, name in enumerate(["a_mask.png", "b_mask.png", "scratches.png"]):
            blob(place).save(self.data / name)
        for place, folder in enumerate(FOLDERS):
            (self.data / folder).mkdir(parents=True)
            for index in range(8):
                noise(100 + 10 * place + index).save(self.data / folder / f"{index}.jpg")
        for place, folder in enumerate(["my-pairs", "my-other-pairs", "my_folder", "prompts"]):
            for name in ("inputs", "targets"):
                (self.data / folder / name).mkdir(parents=True)
            for index in range(3):
                noise(200 + 10 * place + index).save(self.data / folder / "inputs" / f"00{index + 1}.png")
                blob(200 + 10 * place + index).save(self.data / folder / "targets" / f"00{index + 1}.png")
        masks = {f"2007_{index}": mask((48, 40), (1 + 5 * (index % 4), 5, 5, 30, 30)) for index in range(12)}
        write_voc(self.data / "voc", masks)
        self.make_tables()
        self.make_film()

    def make_film(self) -> None:
        """A film of two shots."""
        av = pytest.importorskip("av")
        with av.open(str(self.data / "film.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for index in range(150):
                color = (200, 40, 40) if index < 75 else (40, 60, 200)
                container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 48), color))))
            container.mux(stream.encode())

    def make_tables(self) -> None:
        """Captions, questions, masks and episodes."""
        picture, text = Picture(), Value("string")
        captions = ["A cat sleeps.", "Two dogs run.", "A red car.", "The moon above a boat."] * 3
        rows = [{"image": noise(300 + place), "caption": caption} for place, caption in enumerate(captions)]
        for name in ("captions", "captioned", "other-captions"):
            table = Dataset.from_list(rows, features=Features({"image": picture, "caption": text}))
            table.to_parquet(self.data / f"{name}.parquet")
        asked = [
            {"image": row["image"], "question": "What is it?", "answer": answer}
            for row, answer in zip(rows, ["cat", "dog", "car", "moon"] * 3, strict=True)
        ]
        features = Features({"image": picture, "question": text, "answer": text})
        Dataset.from_list(asked, features=features).to_parquet(self.data / "asked.parquet")
        for folder in ("questions", "other-questions"):
            (self.data / folder).mkdir()
            lines = []
            for place, row in enumerate(asked):
                row["image"].save(self.data / folder / f"{place}.png")
                lines.append(
                    json.dumps({"file_name": f"{place}.png", "question": "What is it?", "answer": row["answer"]})
                )
            (self.data / folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
        masks = [{"image": noise(400 + place), "mask": blob(400 + place)} for place in range(8)]
        for name in ("photos", "nuclei", "val"):
            table = Dataset.from_list(masks, features=Features({"image": picture, "mask": picture}))
            table.to_parquet(self.data / f"{name}.parquet")
        self.make_named_tables(masks)
        episodes = [
            {
                "episode_id": place,
                "way": 2,
                "shot": 1,
                "class_names": ["cat", "dog"],
                "support_images": [noise(500 + place), noise(510 + place)],
                "support_labels": [0, 1],
                "query_image": noise(520 + place),
                "query_label": place % 2,
            }
            for place in range(3)
        ]
        number = Value("int64")
        features = Features(
            {
                **dict.fromkeys(("episode_id", "way", "shot", "query_label"), number),
                "class_names": List(text),
                "support_images": List(picture),
                "support_labels": List(number),
                "query_image": picture,
            }
        )
        Dataset.from_list(episodes, features=features).to_parquet(self.data / "episodes.parquet")

    def make_named_tables(self, masks: list[dict[str, Any]]) -> None:
        """The tables of data sets that the pages name: label maps, nuclei, and pictures with their class."""
        labelled = [{"image": row["image"], "label_map": row["mask"].point(lambda value: value // 85)} for row in masks]
        both = [{**one, **other} for one, other in zip(labelled, masks, strict=True)]
        named = [{"image": row["image"], "class_name": ("cat", "dog")[place % 2]} for place, row in enumerate(masks)]
        tables = {
            "camvid/train": (labelled, {"label_map": Picture()}),
            "camvid/val": (labelled, {"label_map": Picture()}),
            "nuclei/dsb-he-train": (masks, {"mask": Picture()}),
            "nuclei/dsb-he-val": (masks, {"mask": Picture()}),
            "train": (both, {"label_map": Picture(), "mask": Picture()}),
            "tiny-imagenet/train": (named, {"class_name": Value("string")}),
            "tiny-imagenet/val": (named, {"class_name": Value("string")}),
        }
        for name, (rows, column) in tables.items():
            path = self.data / f"{name}.parquet"
            path.parent.mkdir(exist_ok=True)
            Dataset.from_list(rows, features=Features({"image": Picture(), **column})).to_parquet(path)

    def prepare(self, page: str, folder: Path) -> Path:
        """A page's own folder: the data, hub_configs/ with tiny models, and what the page takes from other pages."""
        shutil.copytree(self.data, folder)
        (folder / "hub_configs").mkdir()
        for path in (ROOT / "hub_configs").iterdir():
            if path.is_dir():
                (folder / "hub_configs" / path.name).symlink_to(self.small(path.name) or path)
        for place in ("docs/tables", "tables"):  # the reports, and a run that came out as they did
            shutil.copytree(ROOT / "docs" / "tables", folder / place)
        for place, model in PREPARED.get(page, {}).items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(self.models / model, folder / place)
        return folder

    def small(self, name: str) -> Path | None:
        """The tiny model that stands for one of hub_configs/: with weights where that one has some."""
        real, kind = ROOT / "hub_configs" / name, name.partition("-")[0]
        if kind not in ("v2l", "vqgan", "simlvm") or not (real / "config.json").is_file():
            return None
        if (real / "model.safetensors").is_file():
            return self.models / kind
        folder = self.models / f"{kind}-config"
        folder.mkdir(exist_ok=True)
        tiny = {"vqgan": VQGAN, "v2l": {**SIZES, "encoder_type": None, "latent_channels": 8, "local_latent_dim": 8}}
        tiny["simlvm"] = {"vq_config": VQGAN, "text_config": LLAMA, "max_images": 16}
        (folder / "config.json").write_text(json.dumps({"model_type": kind, **tiny[kind]}), encoding="utf-8")
        return folder

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lets `offline` and `default` be the tiny models."""
        monkeypatch.setenv(HOME_VARIABLE, str(self.home))
        for kind in ("v2l", "simlvm"):
            monkeypatch.setitem(shipped.SHIPPED, kind, str(self.models / kind))
