"""The model that ships with the package does what its card says, on drawn shapes that no training has seen."""

import numpy as np
import pytest
from PIL import Image

from visual_sentence.data import SentenceMaker, VisualSentence, parse_task_data
from visual_sentence.sentence_completion import SentenceCompleter

QUERIES, PAIRS = 3, 3
TASKS = ["denoising:shapes[30000:30100]?sigma=50", "brightness:shapes[30000:30100]?factor=0.4"]


@pytest.fixture(scope="module")
def completer():
    return SentenceCompleter.load(device="cpu")


def sentences(task: str, completer: SentenceCompleter) -> list[VisualSentence]:
    """Sentences of shapes far behind those of training."""
    maker = SentenceMaker(parse_task_data(task), None, seed=1, size=completer.processor.image_processor.local_size)
    return [maker.sentence(index, PAIRS) for index in range(QUERIES)]


def squared_error(first: Image.Image, second: Image.Image) -> float:
    return float(((np.asarray(first, float) - np.asarray(second, float)) ** 2).mean())


def test_shapes_are_found(completer):
    asked = sentences("segmentation:shapes[30000:30100]", completer)
    scores, copied = [], []
    for sentence, answer in zip(asked, completer.complete(asked, output="mask"), strict=True):
        truth = np.asarray(sentence.target.convert("L")) > 127
        last = np.asarray(sentence.pairs[-1].target.convert("L")) > 127
        scores.append(2 * (answer.mask & truth).sum() / (answer.mask.sum() + truth.sum()))
        copied.append(2 * (last & truth).sum() / (last.sum() + truth.sum()))
    assert np.mean(scores) > 0.75 > np.mean(copied) + 0.1


@pytest.mark.parametrize(
    "task", ["denoising:shapes[30000:30100]?sigma=50", "brightness:shapes[30000:30100]?factor=0.4"]
)
def test_pictures_come_out_better_than_they_went_in(completer, task):
    asked = sentences(task, completer)
    answers = completer.complete(asked, output="image")
    error = np.mean([squared_error(found.image, one.target) for one, found in zip(asked, answers, strict=True)])
    given = np.mean([squared_error(one.query, one.target) for one in asked])
    assert error < 0.75 * given
