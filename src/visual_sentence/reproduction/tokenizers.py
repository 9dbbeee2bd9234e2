"""The models of the V2L Tokenizer's tables, trained at equal budget: 64 pixels, a map of 8 x 8, the same convolutions.

They differ in what the tables compare: which codebook, whether it is projected, how it is matched, and what else the
decoder is given. Every model is trained as its training script would; its settings lie beside it in `done.json`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed

from ..codebook.local import LocalCodebook, build_local_codebook
from ..modeling.vocabulary_v2l import LocalVocabulary
from ..shipped import preset_folder
from ..training.loop import MODEL_FOLDER, Trainer
from ..training.models import load_v2l, load_vqgan
from ..training.pictures import open_pictures
from ..training.preparation import precision_here
from ..training.presets import make_training_config
from .context import Context
from .workspace import require_last_step

SIDE, SEED, BATCH = 64, 0, 8
# The papers' vocabularies have 32,000 entries; of a longer one its first, the commonest, are taken.
VOCABULARY = 32_000
COMMON = ("image_size=64", "block_out_channels=[64,128]", "patch_size=4")
# Learned and projected codes are moved to the latents behind so many of the steps; the papers' systems are not.
MOVED = 0.15


@dataclass(frozen=True)
class Recipe:
    """How one of the models is made.

    Args:
        config: Folder of hub_configs/ that it begins with.
        fields: Fields of its configuration.
        words: Kind of its local codebook; None for learned codes, or for a masked language model's.
        guided: Whether it has the image tower and the global words.
        masked_lm: Whether its codebook is a masked language model's, which reads the codes.
        moved: Whether its codes are moved to the latents.
        script: What trains it at the papers' size.
    """

    config: str
    fields: Sequence[str] = ()
    words: str | None = None
    guided: bool = False
    masked_lm: bool = False
    moved: bool = False
    script: str = "scripts/train_v2l.py --preset paper"


PLAIN = ("local_projector=false",)
GIVEN = (*COMMON, "quantizer_gradient=straight-through")
RECIPES = {
    "vqgan": Recipe(
        "vqgan-sentence-96",
        ("image_size=64", "codebook_size=8192"),
        moved=True,
        script="scripts/train_vqgan.py --preset paper",
    ),
    "vqgan-llm": Recipe("v2l-small-128", (*GIVEN, *PLAIN, "normalize_latents=false"), "llm"),
    "text": Recipe("v2l-small-128", (*GIVEN, *PLAIN), "text"),
    "projected": Recipe("v2l-small-128", (*GIVEN, "local_latent_dim=384"), "text"),
    "v2l": Recipe("v2l-small-128", COMMON, "text", moved=True),
    "v2l-hybrid": Recipe("v2l-small-128", (*COMMON, "cross_attention=paper"), "text", guided=True, moved=True),
    "lqae-llm": Recipe("lqae-small-64", (), "llm"),
    "lqae": Recipe("lqae-small-64", (), masked_lm=True),
    "spae": Recipe("spae-small-64", (), "text", guided=True),
    "spae-map": Recipe("spae-small-64-map", (), "text", guided=True),
}


def tokenizer_settings(context: Context, name: str) -> dict[str, Any]:
    """All that a tokenizer depends on, as JSON values."""
    if name in context.models:
        return {"model": context.models[name]}
    recipe, sizes = RECIPES[name], context.sizes
    return {
        "name": name,
        "config": recipe.config,
        "fields": list(recipe.fields),
        "words": recipe.words,
        "moved": recipe.moved,
        "llm": context.models.get("llm"),
        "steps": sizes.tokenizer_steps,
        "pictures": context.data.described("train-pictures", sizes.train_slice),
        "seed": SEED,
        "threads": torch.get_num_threads(),
        "precision": precision_here("auto"),
        **(context.replaced("encoder") if recipe.words == "text" else {}),
        **(context.replaced("words") if recipe.guided else {}),
        **(context.replaced("masked-lm") if recipe.masked_lm else {}),
    }


def tokenizer(context: Context, name: str) -> str:
    """One of the models: the user's, or trained.

    Args:
        context: The run.
        name: One of `RECIPES`.

    Raises:
        NotRunnableError: If it was not given and cannot be trained.
    """
    if name in context.models:
        return context.models[name]
    recipe = RECIPES[name]
    context.require_training(name, recipe.script)
    pictures = context.data["train-pictures"] + context.sizes.train_slice

    def make(folder: Path) -> None:
        steps = context.sizes.tokenizer_steps
        moved = round(MOVED * steps) if recipe.moved else 0
        config = make_training_config(
            "small",
            {
                "data": [pictures],
                "output": str(folder),
                "max_steps": steps,
                "batch_size": BATCH,
                "learning_rate": 2e-3,
                "unquantized_steps": moved,
                "warmup_steps": min(50, steps // 4),
                "sample_every": 0,
                "checkpoint_every": 100,
                "tracker": "none",
                "seed": SEED,
                "resume": "latest",
            },
        )
        preset = str(preset_folder(recipe.config))
        words = None if recipe.words is None else local_words(context, recipe.words)
        set_seed(SEED)  # the random start hangs on the seed alone, not on what was made before
        if recipe.words is None and not recipe.masked_lm:
            model, processor = load_vqgan(preset, None, recipe.fields)
        else:
            given = context.models["words"] if recipe.guided else None
            masked = context.models["masked-lm"] if recipe.masked_lm else None
            model, processor = load_v2l(preset, None, recipe.fields, words, given, masked)
        require_last_step(Trainer(config, model, processor, open_pictures(config.data)).train().stopped_by)

    return str(context.workspace.made(name, tokenizer_settings(context, name), make) / MODEL_FOLDER)


def local_words(context: Context, kind: str) -> LocalCodebook:
    """The local codebook of a kind, of the language model's first entries."""
    llm, encoder = context.models["llm"], context.models["encoder"]
    settings = {"kind": kind, "llm": llm, "encoder": encoder}

    def make(folder: Path) -> None:
        build_local_codebook(kind, llm, encoder, folder=folder / "codebook", device=context.device)

    whole = LocalCodebook.load(context.workspace.made(f"words-{kind}", settings, make) / "codebook")
    vocabulary = LocalVocabulary(whole.vocabulary.words[:VOCABULARY], whole.vocabulary.language_model)
    return LocalCodebook(whole.embeddings[:VOCABULARY], vocabulary, whole.provenance)


__all__ = ["RECIPES", "SEED", "SIDE", "local_words", "tokenizer", "tokenizer_settings"]
