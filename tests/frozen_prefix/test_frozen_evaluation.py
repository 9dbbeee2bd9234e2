"""Episodes answered with prefixes: the rows of the few-shot evaluation, and answers that come of the pictures."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from visual_sentence import UserError
from visual_sentence.completion import LocalCompletions
from visual_sentence.few_shot import ClassificationPrompt, Example, InContextClassifier
from visual_sentence.few_shot.evaluation import Episode, EpisodeSet, FewShotSetting
from visual_sentence.frozen_prefix import PrefixFinder, PrefixWords, build_frozen_model, evaluate_frozen
from visual_sentence.modeling import V2LImageProcessor

from ..conftest import TOWERS

COLOURS = ["red", "blue", "green", "white"]


def png(colour: str) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (32, 32), colour).save(stream, "png")
    return stream.getvalue()


@pytest.fixture
def episode_set() -> EpisodeSet:
    names, ids = ("goldfish", "French_bulldog"), ("n1", "n4")
    episodes = [
        Episode(2, 1, names, ids, ("red", "blue"), (0, 1), "green", 0),
        Episode(2, 1, names, ids, ("green", "blue"), (0, 1), "white", 1),
    ]
    return EpisodeSet(episodes, {colour: png(colour) for colour in COLOURS})


def test_rows_are_those_of_the_few_shot_evaluation(frozen, language_model, episode_set):
    embedding = language_model.model.get_input_embeddings()
    setting = FewShotSetting(num_words=5, scoring="likelihood", prompt=ClassificationPrompt(induction=False))
    (row,) = evaluate_frozen(*frozen, language_model, episode_set, setting)
    assert {"way", "shot", "accuracy", "ci95", "n", "chance", "nearest_class_mean"} <= row.keys() and row["n"] == 2
    assert language_model.model.get_input_embeddings() is embedding
    # the same, episode by episode
    model, image_processor = frozen
    right = 0
    for episode in episode_set.episodes:
        shown = [Image.open(BytesIO(episode_set.images[key])) for key in (*episode.support, episode.query)]
        with torch.no_grad(), PrefixWords(language_model) as pictures:
            views = image_processor(shown, return_tensors="pt")["global_pixel_values"]
            words = ["".join(word) for word in pictures.add(model(views).prefix_embeds)]
            names = [name.replace("_", " ") for name in episode.class_names]
            support = [Example((word,), name) for word, name in zip(words, names, strict=False)]
            classifier = InContextClassifier(LocalCompletions(pictures.language_model), setting.prompt, setting.scoring)
            answer = classifier.classify(support, [[words[2]]], names)[0]
        right += answer.label == names[episode.query_label]
    assert row["accuracy"] == right / 2


@pytest.mark.parametrize("scoring", ["domain-calibrated", "exact-match", "trie"])
def test_every_scoring_works(frozen, language_model, episode_set, scoring):
    rows = evaluate_frozen(*frozen, language_model, episode_set, FewShotSetting(2, scoring))
    assert len(rows) == 1 and 0 <= rows[0]["accuracy"] <= 1


def test_classes_can_be_removed(v2l_folder, language_model, episode_set, make_v2l, tmp_path):
    make_v2l("conse").save_pretrained(tmp_path / "conse")
    V2LImageProcessor(global_size=32).save_pretrained(tmp_path / "conse")
    model, image_processor = build_frozen_model(str(tmp_path / "conse"), language_model)
    assert TOWERS["conse"][1]["label_ids"] == PrefixFinder(model, image_processor, None).labels
    (row,) = evaluate_frozen(model, image_processor, language_model, episode_set, FewShotSetting(2, "likelihood"))
    assert "accuracy_classes_removed" in row


def test_finder_finds_words_ids_and_embeddings(frozen, language_model, episode_set):
    model, image_processor = frozen
    with PrefixWords(language_model) as pictures:
        joined = list(PrefixFinder(model, image_processor, pictures).find(episode_set.pictures(), batch_size=3))
        apart = list(PrefixFinder(model, image_processor, pictures, is_joined=False).find(episode_set.pictures()))
        assert [found.words for found in joined[:2]] == [
            ["<picture-0-0><picture-0-1>"],
            ["<picture-1-0><picture-1-1>"],
        ]
        assert apart[0].words == ["<picture-4-0>", "<picture-4-1>"]
        first = pictures.first_id
        assert joined[1].token_ids == [[first + 2, first + 3]] and apart[1].token_ids == [[first + 10], [first + 11]]
        assert torch.allclose(pictures.embeddings[:8], pictures.embeddings[8:], atol=1e-5)  # batches of other sizes
        expected = model(image_embeds=torch.stack([found.image_embeds for found in joined])).prefix_embeds
        assert torch.allclose(pictures.embeddings[:8].view(4, 2, -1), expected, atol=1e-5)
        assert list(PrefixFinder(model, image_processor, pictures).find([])) == []
    assert np.isclose(joined[0].image_embeds.norm().item(), 1)


def test_a_model_of_another_width_is_refused(frozen, language_model, episode_set):
    frozen[0].config.hidden_size = 8
    with pytest.raises(UserError, match="The prefixes are 8 wide"):
        evaluate_frozen(*frozen, language_model, episode_set, FewShotSetting(2))
