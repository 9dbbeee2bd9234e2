"""Few-shot classification with prefixes in place of words: the episodes, prompts and rows of `few_shot.evaluation`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from ..completion import LocalCompletions
from ..few_shot.evaluation import EpisodeSet, FewShotSetting, evaluate_few_shot
from ..language import LanguageModel
from ..modeling import FrozenModel, V2LImageProcessor
from ..words import ImageWords, batched
from .embedding import embed_pictures
from .models import require_same_width
from .soft_words import PrefixWords


class PrefixFinder:
    """Finds pictures' words as `WordFinder` does, where those words are the picture's own.

    Args:
        model: Makes prefixes.
        image_processor: Makes its views.
        words: Where pictures become words; it grows.
        is_joined: Whether the n embeddings of a picture stand side by side in every prompt, as one word of n tokens, as
            they did in training; else they are n words, between which a prompt writes what it writes between words.
    """

    def __init__(
        self, model: FrozenModel, image_processor: V2LImageProcessor, words: PrefixWords, is_joined: bool = True
    ):
        self.model, self.image_processor = model.eval(), image_processor
        self.words, self.is_joined = words, is_joined

    @property
    def labels(self) -> list[str]:
        """Identifiers of the labels that the image tower was taught, where it is built on a classifier."""
        return self.model.image_tower.label_ids

    @torch.no_grad()
    def find(
        self,
        images: Iterable[Image.Image],
        num_words: int | None = None,
        batch_size: int = 32,
        excluded_labels: Sequence[str] = (),
        total: int | None = None,
    ) -> Iterator[ImageWords]:
        """Makes every picture a word.

        Args:
            images: N pictures.
            num_words: Not used: a picture has as many embeddings as the model was trained with.
            batch_size: Pictures a forward pass.
            excluded_labels: As of `WordFinder.find`.
            total: As of `WordFinder.find`.

        Returns:
            What was found in each picture, in order: words and ids, no distances, and the tower's embedding.
        """
        embeds = embed_pictures(self.model, self.image_processor, images, batch_size, excluded_labels, total)
        parts = [
            self.model(image_embeds=torch.stack(batch).to(self.model.device)).prefix_embeds.cpu()
            for batch in batched(embeds, batch_size)
        ]
        # at once, since a tokenizer takes a while to learn tokens, few or many
        found = self.words.add(torch.cat(parts)) if parts else []
        to_ids: Callable[[list[str]], Any] = self.words.language_model.tokenizer.convert_tokens_to_ids
        return iter(
            [
                ImageWords(["".join(words)], [to_ids(words)], [], image)
                if self.is_joined
                else ImageWords(words, [[token_id] for token_id in to_ids(words)], [], image)
                for words, image in zip(found, embeds, strict=True)
            ]
        )


def evaluate_frozen(
    model: FrozenModel,
    image_processor: V2LImageProcessor,
    language_model: LanguageModel,
    episode_set: EpisodeSet,
    setting: FewShotSetting,
    classes_removed: bool = True,
    batch_size: int = 16,
) -> list[dict[str, Any]]:
    """Answers every episode with prefixes in place of words.

    Args:
        model: Makes prefixes for this language model.
        image_processor: Makes its views.
        language_model: The frozen language model, loaded here: a served one takes no embeddings.
        episode_set: The questions.
        setting: How they are answered; its `num_words` is replaced by the model's n.
        classes_removed: As of `evaluate_few_shot`. The mapping itself was trained with those classes if its data had
            them.
        batch_size: The most rows in one forward pass of the language model.

    Returns:
        The rows of `evaluate_few_shot`.

    Raises:
        UserError: If the model's prefixes are for words of another width.
    """
    require_same_width(model, language_model)
    setting = replace(setting, num_words=model.config.num_prefix_tokens)
    with PrefixWords(language_model) as words:
        finder = PrefixFinder(model, image_processor, words)
        completions = LocalCompletions(words.language_model, batch_size)
        return evaluate_few_shot(finder, completions, episode_set, setting, classes_removed)
