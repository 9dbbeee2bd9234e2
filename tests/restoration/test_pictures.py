"""Pictures to restored pictures: what each mode looks at, and that a batch changes nothing."""

import numpy as np
import pytest
import torch

from visual_sentence import UserError
from visual_sentence.language import LanguageModel
from visual_sentence.modeling import LocalVocabulary
from visual_sentence.reconstruction import ImageTokens
from visual_sentence.restoration import TASKS, PictureRestorer, RestorationSetting, view_of
from visual_sentence.restoration.degradation import Degradation
from visual_sentence.restoration.files import example_views
from visual_sentence.restoration.pictures import MODES, fingerprint


@pytest.fixture
def views(noise) -> list:
    return [view_of(picture, 16) for picture in noise[:3]]


@pytest.fixture
def examples(noise) -> list:
    return [view_of(picture, 16) for picture in noise[3:]]


def setting(task: str, **options) -> RestorationSetting:
    return RestorationSetting(task, **{"n": 4, "num_examples": 3, **options})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", TASKS)
def test_a_batch_is_its_pictures_one_by_one(task, mode, restorer, views, examples):
    chosen = setting(task, mode=mode)
    together = restorer.restore(views, chosen, examples)
    for index in (2, 0):
        alone = restorer.restore([views[index]], chosen, examples)
        assert torch.equal(alone.restored_tokens[0], together.restored_tokens[index])
        assert alone.degraded[0].tobytes() == together.degraded[index].tobytes()
        # convolutions of one picture round otherwise than those of three
        drawn = [np.asarray(picture, dtype=int) for picture in (alone.restored[0], together.restored[index])]
        assert np.abs(drawn[0] - drawn[1]).max() <= 1
        assert together.originals[index].tobytes() == views[index].picture.tobytes()


def test_leak_free_sees_the_degraded_picture_alone(restorer, views, examples):
    for task in ("inpainting", "deblurring"):
        chosen = setting(task)
        found = restorer.restore(views, chosen, examples)
        degraded = [Degradation(task).apply(view, (4, 4)) for view in views]
        assert [picture.tobytes() for picture in found.degraded] == [picture.tobytes() for picture in degraded]
        assert torch.equal(found.degraded_tokens, restorer.codec.encode(degraded).image_tokens)
        given = [view_of(picture, 16) for picture in degraded]
        again = restorer.restore(given, chosen, examples, already_degraded=True)
        assert torch.equal(again.restored_tokens, found.restored_tokens) and again.originals is None


def test_whatever_stands_in_a_hole_is_painted_over(restorer, views, examples):
    chosen = setting("inpainting")
    (expected, *_) = restorer.restore(views, chosen, examples, already_degraded=True).restored
    scribbled = views[0].picture.copy()
    scribbled.paste("red", (5, 5, 11, 11))
    found = restorer.restore([view_of(scribbled, 16)], chosen, examples, already_degraded=True)
    assert found.restored[0].tobytes() == expected.tobytes()


def test_paper_knows_the_clean_tokens_around_a_hole(restorer, views):
    clean = restorer.codec.encode([view.picture for view in views])
    found = restorer.restore(views, setting("inpainting", mode="paper"))
    assert torch.equal(found.degraded_tokens, clean.image_tokens)
    found = restorer.restore(views, setting("rotation", mode="paper"))
    assert not torch.equal(found.degraded_tokens, clean.image_tokens)


def test_global_words_are_the_degraded_pictures_or_the_clean_ones(make_codec, language_model, views, examples):
    codec = make_codec("paper")
    restorer = PictureRestorer(codec, language_model)
    clean = codec.encode([view.picture for view in views]).global_tokens
    for mode in MODES:
        found = restorer.restore(views, setting("outpainting", mode=mode), examples)
        expected = clean if mode == "paper" else codec.encode(found.degraded).global_tokens
        assert torch.equal(found.global_tokens, expected)
        drawn = codec.decode(ImageTokens(found.restored_tokens, expected))
        assert [picture.tobytes() for picture in found.restored] == [picture.tobytes() for picture in drawn]
    assert not torch.equal(codec.encode(found.degraded).global_tokens, clean)


def test_published_copies_count_global_tokens(make_codec, language_model, views, monkeypatch):
    counted = []
    monkeypatch.setattr(
        "visual_sentence.restoration.pictures.noisy_copies",
        lambda *maps, extra_tokens, seed: counted.append(extra_tokens) or stop(),
    )

    def stop():
        raise KeyboardInterrupt

    for attention, variant, expected in (
        ("paper", "published-code", 3),
        ("paper", "paper", 0),
        (None, "published-code", 0),
    ):
        restorer = PictureRestorer(make_codec(attention), language_model)
        with pytest.raises(KeyboardInterrupt):
            restorer.restore(views, setting("shift", mode="paper", variant=variant))
        assert counted.pop() == expected


def test_examples_are_encoded_once(restorer, views, examples, monkeypatch):
    calls = []
    encode = restorer.codec.encode
    monkeypatch.setattr(restorer.codec, "encode", lambda pictures: calls.append(len(pictures)) or encode(pictures))
    restorer.restore(views, setting("rotation"), examples)
    restorer.restore(views[:1], setting("rotation"), list(examples))
    assert calls == [3, 3, 3, 1]
    restorer.restore(views[:1], setting("rotation", seed=1), examples)
    assert calls[4:] == [1, 3, 3]


def test_every_setting_reaches_the_result(restorer, views, examples):
    plain = restorer.restore(views, setting("shift"), examples)
    for options in ({"seed": 1}, {"n": 2, "variant": "paper"}, {"m": 3}, {"num_examples": 5}, {"shift": 0.5}):
        other = restorer.restore(views, setting("shift", **options), examples)
        assert not torch.equal(other.restored_tokens, plain.restored_tokens), options
    published = restorer.restore(views, setting("shift", shift=None), examples)
    assert [picture.tobytes() for picture in published.degraded] == [view.far_end.tobytes() for view in views]


def test_mistakes_are_named(restorer, make_codec, language_model, views, examples):
    for arguments, message in (
        ({"task": "haze"}, "no restoration task 'haze'"),
        ({"mode": "honest"}, "no restoration mode 'honest': choose one of leak-free, paper"),
        ({"variant": "poem"}, "no prompt variant 'poem'"),
        ({"n": 0}, "n is a number of at least 1, found 0"),
        ({"shift": 0.7}, "share above 0, up to 0.5"),
        ({"mode": "paper", "num_examples": 11}, "has 10 replacement ratios, so no 11 examples"),
    ):
        with pytest.raises(UserError, match=message):
            RestorationSetting(**{"task": "shift", **arguments})
    for arguments, message in (
        ((views, setting("shift")), "there is none: give examples, or choose mode paper"),
        ((views, setting("shift", mode="paper"), (), True), "come degraded: choose mode leak-free"),
        ((views, setting("shift"), [*examples, views[1]]), "among its own examples"),
    ):
        with pytest.raises(UserError, match=message):
            restorer.restore(*arguments)
    codec = make_codec()
    words = list(codec.words)
    codec.model.set_local_vocabulary(LocalVocabulary([*words[:7], "other", *words[8:]], "another"))
    with pytest.raises(UserError, match=r"local tokens of tiny-v2l are not the token ids of tiny-llama \(id 7 is"):
        PictureRestorer(codec, language_model)


def test_a_language_model_of_fewer_tokens_is_refused(make_codec, llama, metaspace_tokenizer, gpt2):
    with pytest.raises(UserError, match="are not the token ids of other"):
        PictureRestorer(make_codec(), LanguageModel(llama, metaspace_tokenizer, "other"))


def test_example_views_leave_out_what_is_restored(noise):
    from visual_sentence.image_io import ImageSource

    source = ImageSource("noise", len(noise), lambda: iter(noise))
    excluded = {fingerprint(view_of(noise[0], 16)), fingerprint(view_of(noise[2], 16))}
    found = example_views(source, 16, excluded, 3)
    assert [fingerprint(view) for view in found] == [fingerprint(view_of(noise[index], 16)) for index in (1, 3, 4)]
    with pytest.raises(UserError, match="noise holds no picture that is not to be restored itself"):
        example_views(source, 16, {fingerprint(view_of(picture, 16)) for picture in noise})
