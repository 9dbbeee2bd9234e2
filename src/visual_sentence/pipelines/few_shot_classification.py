"""`pipeline("visual-few-shot-classification")`: pictures sorted into classes shown by a few examples.

The V2L model writes every picture as words; a frozen language model reads the examples' words with their labels
and says which label the new words deserve (V2L Tokenizer, section 3.3).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import Pipeline
from transformers.image_utils import load_image

from ..errors import UserError
from ..few_shot import BEST_SCORING, ClassificationPrompt, Example, InContextClassifier
from ..image_io import open_image
from ..language import LanguageModel, load_language_model
from ..references import OFFLINE
from ..words import WordFinder

FEW_SHOT_TASK = "visual-few-shot-classification"

Picture = Image.Image | str | Path
FORWARD_PARAMETERS = ("support", "num_words", "scoring", "prompt_style", "induction", "repetitions")


class VisualFewShotClassificationPipeline(Pipeline):
    """Few-shot classification by a frozen language model.

    Args:
        model: A `V2LModel` with a vocabulary.
        language_model: A `LanguageModel`, or a reference to load one from; by default the one whose vocabulary the
            V2L model's words come from.
        **kwargs: As for every pipeline (`image_processor`, `device`, `batch_size`, ...); and defaults for what a call
            takes.

    Example:
        >>> classify = pipeline("visual-few-shot-classification", model=offline_folder("v2l"))
        >>> classify("new.jpg", support={"cat": ["cat1.jpg", "cat2.jpg"], "dog": ["dog1.jpg"]})
        [{'label': 'cat', 'score': 0.93}, {'label': 'dog', 'score': 0.07}]
    """

    _load_image_processor = True
    _load_tokenizer = _load_processor = _load_feature_extractor = _load_video_processor = False

    def __init__(self, *args, language_model: LanguageModel | str | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self._language_model = language_model
        self._support_examples: tuple[Any, list[Example]] | None = None
        self._classifiers: dict[tuple, InContextClassifier] = {}

    def __call__(self, inputs: Picture | Sequence[Picture], **kwargs):
        """Classifies pictures.

        Args:
            inputs: One picture (PIL, path or URL), a list, or anything that pipelines stream from.
            support: The examples: class name -> its pictures; every class needs at least one.
            num_words: k, words a picture (the paper's 5 and 21); the model's number by default.
            scoring: How the answer is read off the language model, one of `SCORING_MODES`.
            prompt_style: One of `PROMPT_STYLES`.
            induction: Whether the prompt names the classes first.
            repetitions: How many more times the examples are repeated.
            top_k: Only the k best labels.

        Returns:
            For each picture a list of `{"label", "score"}`, best first; scores sum to one. A free generation
            ("exact-match", "prefix-match") that names no class gives every label the score 0.

        Raises:
            UserError: If the support or a value is not as described.
        """
        return super().__call__(inputs, **kwargs)

    @cached_property
    def language_model(self) -> LanguageModel:
        """The frozen language model, loaded when it is first needed."""
        source = self._language_model or self.model.config.language_model or OFFLINE
        return source if isinstance(source, LanguageModel) else load_language_model(source, device=self.device.type)

    def _sanitize_parameters(self, top_k: int | None = None, **kwargs):
        unknown = sorted(set(kwargs) - set(FORWARD_PARAMETERS))
        if unknown:
            raise UserError(f"{FEW_SHOT_TASK} does not know {', '.join(unknown)}.")
        postprocess = {} if top_k is None else {"top_k": top_k}
        if "support" in kwargs:
            kwargs["support"] = check_support(kwargs["support"])
            postprocess["class_names"] = list(kwargs["support"])
        return {}, kwargs, postprocess

    def preprocess(self, image: Picture) -> dict[str, torch.Tensor]:
        return self._views([image])

    def _views(self, images: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """`global_pixel_values` [B, 3, S, S] of B pictures."""
        opened = [read_picture(image) for image in images]
        return dict(self.image_processor(opened, return_tensors="pt", do_local_view=False))

    def _forward(
        self,
        model_inputs: dict[str, torch.Tensor],
        support: dict[str, list[Picture]] | None = None,
        num_words: int | None = None,
        scoring: str = BEST_SCORING,
        **prompt: Any,
    ) -> dict[str, torch.Tensor]:
        if support is None:
            raise UserError(f"{FEW_SHOT_TASK} needs examples: pass support={{'class': [pictures], ...}}.")
        examples = self._examples(support, num_words)
        words = self._find_words(model_inputs, num_words)
        answers = self._classifier(scoring, **prompt).classify(examples, words, list(support))
        scores = [[answer.scores.get(name, 0.0) for name in support] for answer in answers]
        return {"scores": torch.tensor(scores)}

    def postprocess(
        self, model_outputs: dict[str, torch.Tensor], class_names: list[str], top_k: int | None = None
    ) -> list[dict[str, Any]]:
        scores = model_outputs["scores"][0].tolist()
        ranked = sorted(zip(class_names, scores, strict=True), key=lambda pair: -pair[1])
        return [{"label": label, "score": score} for label, score in ranked[:top_k]]

    def _find_words(self, views: dict[str, torch.Tensor], num_words: int | None) -> list[list[str]]:
        """The words of B pictures, given their views."""
        try:
            return self.model.encode(**views, num_global_tokens=num_words).global_words
        except ValueError as error:
            raise UserError(str(error)) from error

    def _classifier(self, scoring: str, prompt_style: str = "plain", **prompt: Any) -> InContextClassifier:
        """The classifier of these options; kept, since it holds the examples' key-value cache."""
        key = (scoring, prompt_style, *sorted(prompt.items()))
        if key not in self._classifiers:
            self._classifiers.clear()  # one cache is enough: options seldom change from call to call
            self._classifiers[key] = InContextClassifier(
                self.language_model.model,
                self.language_model.tokenizer,
                prompt=ClassificationPrompt(style=prompt_style, **prompt),
                scoring=scoring,
            )
        return self._classifiers[key]

    def _examples(self, support: dict[str, list[Picture]], num_words: int | None) -> list[Example]:
        """The support as words and labels: in rounds, every class once in each, as in the paper's episodes."""
        key = (support, num_words)
        if self._support_examples is None or self._support_examples[0] != key:
            rounds = range(max(len(pictures) for pictures in support.values()))
            shown = [(name, pics[i]) for i in rounds for name, pics in support.items() if i < len(pics)]
            views = {name: view.to(self.device) for name, view in self._views([pic for _, pic in shown]).items()}
            words = self._find_words(views, num_words)
            examples = [Example(tuple(ws), name) for ws, (name, _) in zip(words, shown, strict=True)]
            self._support_examples = (key, examples)
        return self._support_examples[1]


def load_few_shot_pipeline(
    model: str, language_model: str | None = None, dtype: str = "auto", device: str | None = None
) -> VisualFewShotClassificationPipeline:
    """Loads the pipeline from references.

    Args:
        model: V2L model: "offline", a folder or a Hub id.
        language_model: "offline", a folder or a Hub id; the V2L model's own by default.
        dtype: Of the language model, see `load_language_model`.
        device: Where both are put; the first accelerator by default.

    Raises:
        UserError: If one of them cannot be loaded.
    """
    finder = WordFinder.load(model, device=device)
    reference = language_model or finder.model.config.language_model or OFFLINE
    loaded = load_language_model(reference, dtype=dtype, device=device)
    return VisualFewShotClassificationPipeline(
        model=finder.model,
        image_processor=finder.image_processor,
        language_model=loaded,
        device=finder.model.device,
        task=FEW_SHOT_TASK,
    )


def check_support(support: Mapping[str, Picture | Sequence[Picture]]) -> dict[str, list[Picture]]:
    """Brings a support into one form: class name -> list of pictures.

    Raises:
        UserError: If it is no mapping, or a class has no picture.
    """
    if not isinstance(support, Mapping):
        raise UserError(f"support must map class names to pictures, got {type(support).__name__}.")
    checked = {}
    for name, pictures in support.items():
        checked[str(name)] = [pictures] if isinstance(pictures, Picture) else list(pictures)
        if not checked[str(name)]:
            raise UserError(f"The class {name!r} has no picture: every class needs at least one example.")
    return checked


def read_picture(picture: Picture) -> Image.Image:
    """A picture as it is, or read from its path or URL."""
    if isinstance(picture, str) and picture.startswith(("http://", "https://", "data:")):
        return load_image(picture)
    return open_image(picture) if isinstance(picture, (str, Path)) else picture
