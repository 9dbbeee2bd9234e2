"""`pipeline("visual-few-shot-classification")`: pictures sorted into classes shown by a few examples.

The V2L model writes every picture as words; a frozen language model reads the examples' words with their labels
and says which label the new words deserve (V2L Tokenizer, section 3.3).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..completion import load_completion_model
from ..errors import UserError
from ..few_shot import BEST_SCORING, ClassificationPrompt, Example, InContextClassifier
from ..references import OFFLINE
from ..words import WordFinder
from .base import VisualPipeline
from .inputs import Picture, open_picture

FEW_SHOT_TASK = "visual-few-shot-classification"


class VisualFewShotClassificationPipeline(VisualPipeline):
    """Few-shot classification by a frozen language model.

    Args:
        model: A `V2LModel` with a vocabulary.
        language_model: A `LanguageModel`, a `CompletionModel`, or a reference to load one from or the address of a
            served one; by default the one whose vocabulary the V2L model's words come from.
        **kwargs: As for every pipeline (`image_processor`, `device`, `batch_size`, ...); and defaults for what a call
            takes.

    Example:
        >>> classify = pipeline("visual-few-shot-classification", model=offline_folder("v2l"))
        >>> classify("new.jpg", support={"cat": ["cat1.jpg", "cat2.jpg"], "dog": ["dog1.jpg"]})
        [{'label': 'cat', 'score': 0.93}, {'label': 'dog', 'score': 0.07}]
    """

    task_name = FEW_SHOT_TASK
    forward_parameters = ("support", "num_words", "scoring", "prompt_style", "induction", "repetitions")
    postprocess_parameters = ("top_k",)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._support_examples: tuple[Any, list[Example]] | None = None
        self._classifiers: dict[tuple, InContextClassifier] = {}

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
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
            on_error: "raise", or "report" a picture that cannot be read in its place, see `VisualPipeline`.

        Returns:
            For each picture a list of `{"label", "score"}`, best first; scores sum to one. A free generation
            ("exact-match", "prefix-match") that names no class gives every label the score 0.

        Raises:
            UserError: If the support or a value is not as described.
        """
        return super().__call__(inputs, **kwargs)

    def check(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Brings the support into one form."""
        if "support" in parameters:
            parameters["support"] = check_support(parameters["support"])
        return parameters

    def read(self, image: Picture) -> dict[str, torch.Tensor]:
        """`global_pixel_values` [1, 3, S, S] of a picture."""
        return self._views([image])

    def answer(
        self,
        inputs: dict[str, torch.Tensor],
        support: dict[str, list[Picture]] | None = None,
        num_words: int | None = None,
        scoring: str = BEST_SCORING,
        **prompt: Any,
    ) -> dict[str, Any]:
        """Scores [B, L] of B pictures, and their L labels."""
        if support is None:
            raise UserError(f"{FEW_SHOT_TASK} needs examples: pass support={{'class': [pictures], ...}}.")
        examples = self._examples(support, num_words)
        words = self._find_words(inputs, num_words)
        answers = self._classifier(scoring, **prompt).classify(examples, words, list(support))
        scores = [[answer.scores.get(name, 0.0) for name in support] for answer in answers]
        return {"scores": scores, "labels": [list(support)] * len(scores)}

    def finish(self, row: dict[str, Any], top_k: int | None = None) -> list[dict[str, Any]]:
        """The labels of one picture, best first."""
        ranked = sorted(zip(row["labels"], row["scores"], strict=True), key=lambda pair: -pair[1])
        return [{"label": label, "score": score} for label, score in ranked[:top_k]]

    def _views(self, images: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """`global_pixel_values` [B, 3, S, S] of B pictures."""
        opened = [open_picture(image) for image in images]
        return dict(self.image_processor(opened, return_tensors="pt", do_local_view=False))

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
                self.completion_model,
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
        language_model: "offline", a folder, a Hub id or the address of a served one; the V2L model's own by default.
        dtype: Of the language model, see `load_language_model`.
        device: Where both are put; the first accelerator by default.

    Raises:
        UserError: If one of them cannot be loaded.
    """
    finder = WordFinder.load(model, device=device)
    reference = language_model or finder.model.config.language_model or OFFLINE
    loaded = load_completion_model(reference, dtype=dtype, device=device)
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
    checked: dict[str, list[Picture]] = {}
    for name, pictures in support.items():
        given = [pictures] if isinstance(pictures, Picture) else list(pictures)
        # what can be compared with the last call's stays as it is
        checked[str(name)] = [one if isinstance(one, (str, Path, Image.Image)) else open_picture(one) for one in given]
        if not checked[str(name)]:
            raise UserError(f"The class {name!r} has no picture: every class needs at least one example.")
    return checked
