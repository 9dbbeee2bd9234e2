"""A tiny model of pictures, a table of captioned ones, and a language model that writes what it is told to."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from visual_sentence.completion import CompletionModel, LocalCompletions
from visual_sentence.language import LanguageModel
from visual_sentence.modeling import V2LImageProcessor
from visual_sentence.words import WordFinder


class ScriptedModel(CompletionModel):
    """Writes what a rule says and remembers what it was asked.

    Args:
        rule: Prompt -> text; the stop is cut off as a real model does.
    """

    def __init__(self, rule: Callable[[str], str]):
        super().__init__("scripted", None)
        self.rule, self.prompts = rule, []

    def complete(self, prompts: Sequence[str], max_new_tokens: int, stop: str | None = None) -> list[str]:
        self.prompts += prompts
        texts = [self.rule(prompt) for prompt in prompts]
        return [text if stop is None else text.split(stop)[0] for text in texts]

    def log_likelihoods(self, prompts: Sequence[str], answers: Sequence[str]) -> torch.Tensor:
        raise AssertionError("captions need no log-likelihoods")

    def count_tokens(self, text: str) -> None:
        return None

    def another(self) -> "ScriptedModel":
        return ScriptedModel(self.rule)


@pytest.fixture
def finder(make_v2l) -> WordFinder:
    return WordFinder(make_v2l(), V2LImageProcessor(global_size=32))


@pytest.fixture
def local_model(llama, bpe_tokenizer) -> LocalCompletions:
    return LocalCompletions(LanguageModel(llama, bpe_tokenizer, "tiny llama"), batch_size=2)


@pytest.fixture
def pairs(pictures) -> list[tuple[Image.Image, str]]:
    """Five pictures with a caption each."""
    captions = ["A cat.", "Two dogs run", "a tree", "The moon above a boat.", "a red car"]
    return list(zip(pictures, captions, strict=True))


@pytest.fixture
def caption_folder(pairs, tmp_path) -> Path:
    """The pairs as a folder with `metadata.jsonl`."""
    return write_folder(tmp_path / "captioned", [(picture, {"caption": text}) for picture, text in pairs])


def write_folder(folder: Path, rows: Sequence[tuple[Image.Image, dict]]) -> Path:
    """Writes pictures and what is known of them as `datasets` reads them."""
    folder.mkdir()
    lines = []
    for place, (picture, texts) in enumerate(rows):
        picture.save(folder / f"{place}.png")
        lines.append(json.dumps({"file_name": f"{place}.png", **texts}))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def scripted() -> Callable[[Callable[[str], str]], ScriptedModel]:
    return ScriptedModel


@pytest.fixture
def folder_of() -> Callable[[Path, Sequence[tuple[Image.Image, dict]]], Path]:
    return write_folder
