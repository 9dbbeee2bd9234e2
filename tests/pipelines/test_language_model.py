"""The language model of a pipeline: given in every form, in this process or served."""

from functools import partial

import pytest
import torch

from visual_sentence import UserError, load_language_model
from visual_sentence.completion import CompletionModel, LocalCompletions
from visual_sentence.modeling import VQGANImageProcessor
from visual_sentence.pipelines import base
from visual_sentence.pipelines.reconstruction import ImageReconstructionPipeline

from ..modeling.conftest import make_vqgan  # noqa: F401  (fixture)


@pytest.fixture
def make(make_vqgan):  # noqa: F811
    """Any pipeline: all take a language model, and load it when it is asked for."""
    processor = VQGANImageProcessor(local_size=16)
    return partial(ImageReconstructionPipeline, model=make_vqgan(), image_processor=processor, device="cpu")


class Served(CompletionModel):
    """A language model that only takes and gives texts."""

    def __init__(self):
        super().__init__("http://somewhere", None)

    def complete(self, prompts, max_new_tokens, stop=None):
        return [prompt.upper() for prompt in prompts]

    def log_likelihoods(self, prompts, answers):
        return torch.zeros(len(prompts), len(answers))

    def count_tokens(self, text):
        return None

    def another(self):
        return self


def test_a_language_model_may_be_given_in_every_form(make, llm_folder):
    loaded = load_language_model(str(llm_folder), dtype="float32", device="cpu")
    given = make(language_model=loaded)
    assert given.language_model is loaded and given.completion_model.model is loaded.model
    completions = LocalCompletions(loaded)
    wrapped = make(language_model=completions)
    assert wrapped.completion_model is completions and wrapped.language_model is loaded
    for reference in (llm_folder, str(llm_folder)):
        named = make(language_model=reference)
        assert named.language_model.reference == str(llm_folder)
        assert named.completion_model.model is named.language_model.model


def test_a_served_language_model_takes_texts_only(make, monkeypatch):
    served = Served()
    asked = make(language_model=served)
    assert asked.completion_model is served
    address = "http://127.0.0.1:9/v1"
    monkeypatch.setattr(base, "load_completion_model", lambda reference: (reference, served))
    addressed = make(language_model=address)
    assert addressed.completion_model == (address, served)
    for pipeline, name in ((asked, "http://somewhere"), (addressed, address)):
        with pytest.raises(UserError, match=f"works on token ids, which {name} neither takes nor gives"):
            _ = pipeline.language_model
    with pytest.raises(UserError, match="pass a LanguageModel"):
        _ = make(language_model=3).language_model
