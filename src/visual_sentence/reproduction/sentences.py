"""The models of SimLVM's table: image tokenizers of several codebooks, language models of several sizes, reductions.

48 pixels and 36 tokens an image, drawn shapes and, where there are any, streets. Every model is trained as its training
script would; the settings of each lie beside it in `done.json`.
"""

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from transformers import AutoModel

from ..conversion import reduce_codebook
from ..data import Augmentation, parse_task_data
from ..data.pair_files import write_pair_file
from ..data.shards import TokenShards
from ..data.tokenizing import token_header, tokenize_pairs
from ..modeling import SimLVMForVisualSentence, VQGANModel
from ..sentence_training.command import train_as_told
from ..sentence_training.models import load_processor
from ..sentence_training.trainer import MODEL_FOLDER
from ..shipped import preset_folder
from ..training.loop import Trainer
from ..training.models import load_vqgan
from ..training.pictures import open_pictures
from ..training.preparation import precision_here
from ..training.presets import make_training_config
from .budgets import Data, Sizes
from .workspace import NotRunnableError, Workspace, require_last_step

SIDE = 48
SEED, OTHER_SEED = 0, 1
CODES = (8192, 4096, 2048, 1024)
LARGEST = CODES[0]
PAIRS = 3
# Shapes that no training sees: of the tests in the repository those from 20,000 on.
TRAINED_SHAPES, MEASURED_SHAPES = 0, 20_500
# Language models in place of the paper's 300M and 1B: about one to three in parameters without the tables.
LANGUAGE_MODELS = {
    "300m": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 3, "num_attention_heads": 2},
    "1b": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 3},
}
TOKENIZER = "vqgan-sentence-96"
LANGUAGE_MODEL = "simlvm-small-96"


class SentenceModels:
    """Trains what the table needs, each once.

    Args:
        workspace: Where everything is kept.
        data: Where streets lie, if there are any.
        sizes: The budget's.
    """

    def __init__(self, workspace: Workspace, data: Data, sizes: Sizes):
        self.workspace, self.data, self.sizes = workspace, data, sizes
        self.tasks = {"shapes": f"segmentation:shapes[{TRAINED_SHAPES}:{TRAINED_SHAPES + 2 * sizes.sentence_pictures}]"}
        try:
            self.road: tuple[str, str] | None = (data["road-train"], data["road-test"])
        except NotRunnableError:
            self.road = None
        else:
            self.tasks["road"] = (
                f"segmentation:{self.road[0]}{sizes.road_slice}?foreground=3&draws={sizes.road_draws}"
                "&gamma=0.5-2&tint=0.15"
            )

    @property
    def described(self) -> dict[str, Any]:
        """What all models here have in common, for the records."""
        tasks = dict(self.tasks)
        if self.road is not None:
            tasks["road"] = tasks["road"].replace(self.road[0], self.data.described("road-train"))
        machine = {"threads": torch.get_num_threads(), "precision": precision_here("auto")}
        return {"tasks": tasks, "side": SIDE, "seed": SEED, **machine}

    def pictures(self) -> Path:
        """One file of pictures that image tokenizers are trained on: questions and answers alike."""
        limit = self.sizes.sentence_pictures

        def make(folder: Path) -> None:
            file = folder / "pictures.parquet"
            write_pair_file(list(self.tasks.values()), file, "pictures", SIDE, limit, SEED, augment=True)

        return self.workspace.made("pictures", {**self.described, "limit": limit}, make) / "pictures.parquet"

    def tokenizer(self, codes: int, seed: int = SEED) -> Path:
        """A VQGAN of so many codes.

        Args:
            codes: K.
            seed: Of its random start and its pictures' order.
        """
        settings = {**self.described, "codes": codes, "steps": self.sizes.vqgan_steps, "seed": seed}
        settings["pictures"] = self.sizes.sentence_pictures

        def make(folder: Path) -> None:
            training = {**self._vqgan_training(folder, self.sizes.vqgan_steps, 2e-3), "seed": seed}
            config = make_training_config("small", training)
            fields = [f"image_size={SIDE}", f"codebook_size={codes}"]
            set_seed(seed)  # the random start hangs on the seed alone, not on what was made before
            model, processor = load_vqgan(str(preset_folder(TOKENIZER)), None, fields)
            require_last_step(Trainer(config, model, processor, open_pictures(config.data)).train().stopped_by)

        name = f"vqgan-{codes}" if seed == SEED else f"vqgan-{codes}-start-{seed}"
        return self.workspace.made(name, settings, make) / MODEL_FOLDER

    def _vqgan_training(self, folder: Path, steps: int, rate: float, unquantized: int | None = None) -> dict[str, Any]:
        return {
            "data": [str(self.pictures())],
            "output": str(folder),
            "max_steps": steps,
            "batch_size": 8,
            "learning_rate": rate,
            "unquantized_steps": steps // 8 if unquantized is None else unquantized,
            "warmup_steps": min(50, steps // 4),
            "random_crop": False,
            "random_flip": False,
            "sample_every": 0,
            "tracker": "none",
            "seed": SEED,
            "resume": "latest",
        }

    def tokens(self, tokenizer: Path, name: str) -> Path:
        """Token shards of all tasks, written by a tokenizer."""
        settings = {**self.described, "tokenizer": tokenizer.parent.name}

        def make(folder: Path) -> None:
            model = _vqgan(tokenizer)
            data = [parse_task_data(text) for text in self.tasks.values()]
            tokenize_pairs(model, data, folder / "shards", batch_size=32, seed=SEED, augment=Augmentation())

        return self.workspace.made(f"tokens-{name}", settings, make) / "shards"

    def language_model(self, codes: int, size: str = "300m") -> Path:
        """A language model of so many codes, trained from a random start."""
        tokenizer = self.tokenizer(codes)
        tokens = self.tokens(tokenizer, str(codes))
        settings = {
            **self.described,
            "tokens": tokens.parent.name,
            "size": LANGUAGE_MODELS[size],
            "steps": self.sizes.sentence_steps,
        }

        def make(folder: Path) -> None:
            text = {**LANGUAGE_MODELS[size], "vocab_size": codes, "max_position_embeddings": 12 * (SIDE // 8) ** 2}
            fields = [f"text_config.{name}={value}" for name, value in text.items()]
            fields += [f"vq_config.image_size={SIDE}", f"vq_config.codebook_size={codes}"]
            self._train(
                folder,
                str(preset_folder(LANGUAGE_MODEL)),
                tokens,
                self.sizes.sentence_steps,
                ["--from-scratch", "--vqgan", str(tokenizer), *(part for one in fields for part in ("--set", one))],
            )

        return self.workspace.made(f"simlvm-{codes}-{size}", settings, make) / MODEL_FOLDER

    @staticmethod
    def _train(folder: Path, config: str, tokens: Path, steps: int, more: list[str]) -> None:
        warmup = max(1, min(50, steps // 5))
        report, _ = train_as_told(
            [
                *("--config", config, "--preset", "small", "--data", str(tokens), "--output", str(folder)),
                *("--max-steps", str(steps), "--warmup-steps", str(warmup), "--batch-size", "4"),
                *("--min-pairs", str(PAIRS), "--max-pairs", str(PAIRS), "--answer-noise", "0.5", "--seed", str(SEED)),
                *("--tracker", "none", "--resume", "latest", *more),
            ]
        )
        require_last_step(report["stopped_by"])

    def reduced(self, codes: int, tuned: bool) -> Path:
        """The model of all codes with so many left, by k-means; its decoder and language model tuned, or not."""
        base = self.language_model(LARGEST)
        shards = self.tokens(self.tokenizer(LARGEST), str(LARGEST))
        settings = {**self.described, "base": base.parent.name, "codes": codes}

        def make(folder: Path) -> None:
            model = SimLVMForVisualSentence.from_pretrained(base)
            smaller, members = reduce_codebook(model, token_counts(shards, model.vqgan), codes, SEED)
            _save(smaller, base, folder / MODEL_FOLDER)
            torch.save(members, folder / "remap.pt")

        reduced = self.workspace.made(f"reduced-{codes}", settings, make) / MODEL_FOLDER
        return self._tuned(reduced, codes) if tuned else reduced

    def _tuned(self, reduced: Path, codes: int) -> Path:
        """Decoder and language model adapted to their fewer codes."""
        steps = self.sizes.tuning_steps
        settings = {**self.described, "reduced": reduced.parent.name, "steps": steps}

        def decoder(folder: Path) -> None:
            vqgan = SimLVMForVisualSentence.from_pretrained(reduced).vqgan
            # tokens have to stay what they are, so only the way back is trained
            vqgan.requires_grad_(False)
            for part in (vqgan.post_quant_conv, vqgan.decoder):
                part.requires_grad_(True)
            config = make_training_config("small", self._vqgan_training(folder, steps, 5e-4, unquantized=0))
            processor = load_vqgan(str(preset_folder(TOKENIZER)), None, [f"image_size={SIDE}"])[1]
            require_last_step(Trainer(config, vqgan, processor, open_pictures(config.data)).train().stopped_by)

        tokenizer = self.workspace.made(f"reduced-{codes}-decoder", settings, decoder) / MODEL_FOLDER
        tokens = self.tokens(tokenizer, f"reduced-{codes}")
        settings = {**settings, "tokens": tokens.parent.name}

        def language_model(folder: Path) -> None:
            more = ["--vqgan", str(tokenizer), "--learning-rate", "1e-3", "--muon-learning-rate", "3e-3"]
            self._train(folder, str(reduced), tokens, steps, more)

        return self.workspace.made(f"reduced-{codes}-tuned", settings, language_model) / MODEL_FOLDER

    def mismatched(self, codes: int, seed: int = OTHER_SEED) -> Path:
        """The language model of all codes over tokens of another, smaller tokenizer.

        Args:
            codes: The tokenizer's.
            seed: Of its training. Of another start its ids mean other things; of the same start and pictures the first
                of the larger tokenizer's codes became its codes, and many ids still mean the same.
        """
        base, tokenizer = self.language_model(LARGEST), self.tokenizer(codes, seed)
        settings = {**self.described, "base": base.parent.name, "tokenizer": tokenizer.parent.name}

        def make(folder: Path) -> None:
            _save(
                with_tokenizer(SimLVMForVisualSentence.from_pretrained(base), _vqgan(tokenizer)),
                base,
                folder / MODEL_FOLDER,
            )

        name = f"mismatched-{codes}" if seed != SEED else f"same-start-{codes}"
        return self.workspace.made(name, settings, make) / MODEL_FOLDER


def token_counts(shards: Path, vqgan: VQGANModel) -> torch.Tensor:
    """How often each of K tokens occurs in token shards, [K] int64."""
    tokens = TokenShards.open([str(shards)], token_header(vqgan)).rows.tokens
    return torch.bincount(torch.from_numpy(tokens.astype("int64")), minlength=vqgan.config.codebook_size)


def with_tokenizer(model: SimLVMForVisualSentence, vqgan: VQGANModel) -> SimLVMForVisualSentence:
    """A language model as it is, over the tokens of another tokenizer of at most as many codes."""
    fields, size = model.config.to_dict(), vqgan.config.codebook_size
    fields["vq_config"]["codebook_size"] = size
    other = SimLVMForVisualSentence(type(model.config).from_dict(fields))
    shapes = {name: tensor.shape for name, tensor in other.state_dict().items()}
    state = {
        name: tensor if tensor.shape == shapes[name] else tensor[:size]
        for name, tensor in model.state_dict().items()
        if not name.startswith("vqgan.")
    }
    other.load_state_dict(state, strict=False)
    other.take_vqgan(vqgan)
    return other.eval()


def _vqgan(folder: Path) -> VQGANModel:
    return AutoModel.from_pretrained(folder)


def _save(model: SimLVMForVisualSentence, base: Path, folder: Path) -> None:
    model.save_pretrained(folder)
    load_processor(str(base), model).save_pretrained(folder)


__all__ = ["CODES", "LANGUAGE_MODELS", "LARGEST", "MEASURED_SHAPES", "OTHER_SEED", "PAIRS", "SIDE", "SentenceModels"]
