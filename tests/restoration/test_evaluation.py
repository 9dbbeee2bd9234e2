"""The numbers of a restoration against plain computations."""

import numpy as np
import pytest
import torch

from visual_sentence import UserError
from visual_sentence.image_io import ImageSource
from visual_sentence.metrics.image_quality import psnr, ssim
from visual_sentence.reconstruction import ImageTokens
from visual_sentence.restoration import HOLE_TASKS, RestorationSetting, hole_of, view_of
from visual_sentence.restoration import evaluation as module
from visual_sentence.restoration.evaluation import COMPARED, evaluate_restoration, random_tokens
from visual_sentence.restoration.files import example_views
from visual_sentence.restoration.tasks import fill_with_nearest

WITHOUT = {"perceptual": "none", "frechet": "none"}


@pytest.fixture
def source(noise) -> ImageSource:
    return ImageSource("noise", len(noise), lambda: iter(noise))


def batch(pictures) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)


@pytest.mark.parametrize("mode", ["leak-free", "paper"])
@pytest.mark.parametrize("task", ["outpainting", "rotation"])
def test_numbers_are_those_of_the_pictures(task, mode, restorer, source, noise):
    chosen = RestorationSetting(task, mode, n=4, num_examples=2, seed=5)
    result = evaluate_restoration(restorer, source, chosen, limit=4, batch_size=3, **WITHOUT)
    views, shown = [view_of(picture, 16) for picture in noise[:4]], [view_of(picture, 16) for picture in noise[4:]]
    numbers = {name: {"psnr": [], "ssim": [], "token_accuracy": []} for name in COMPARED}
    for part in (views[:3], views[3:]):  # as it is measured: one picture may be drawn a step of 8 bits apart from three
        found = restorer.restore(part, chosen, shown)
        clean, hole = restorer.codec.encode(found.originals).image_tokens, hole_of(task, 4, 4)
        given = fill_with_nearest(found.degraded_tokens, hole) if task in HOLE_TASKS else found.degraded_tokens
        drawn_at_random = random_tokens(given, hole, restorer.in_context(chosen).vocabulary, 5)
        maps = {"degraded_tokens": given, "random_tokens": drawn_at_random, "clean_tokens": clean}
        pictures = {name: restorer.codec.decode(ImageTokens(tokens)) for name, tokens in maps.items()}
        pictures |= {"degraded": found.degraded, "restored": found.restored}
        maps["restored"] = found.restored_tokens
        for name in COMPARED:
            originals, images = batch(found.originals), batch(pictures[name])
            numbers[name]["psnr"] += psnr(images, originals).tolist()
            numbers[name]["ssim"] += ssim(images, originals).tolist()
            if name in maps:
                numbers[name]["token_accuracy"] += (maps[name] == clean)[:, hole].double().mean(1).tolist()
    for name in COMPARED:
        for measure, values in numbers[name].items():
            expected = pytest.approx(float(np.mean(values))) if values else None
            assert result[name][measure] == expected


def test_unchanged_pictures_are_counted(restorer, noise):
    squares = ImageSource("squares", 2, lambda: iter([picture.resize((20, 20)) for picture in noise[:2]]))
    result = evaluate_restoration(restorer, squares, RestorationSetting("shift", "paper", shift=None), **WITHOUT)
    assert result["degraded"]["identical"] == 2 and result["degraded"]["psnr"] is None


def test_networks_measure_under_their_names(restorer, source, monkeypatch):
    class Distance:
        name = "difference"

        def __call__(self, images, references):
            return (images - references).abs().mean(dim=(1, 2, 3))

    class Features:
        name, dim = "colours", 3

        def __call__(self, images):
            return images.mean(dim=(2, 3))

    monkeypatch.setattr(module, "load_perceptual_distance", lambda kind, device, resolution: Distance())
    monkeypatch.setattr(module, "load_frechet_features", lambda kind, device: Features())
    result = evaluate_restoration(restorer, source, RestorationSetting("rotation", "paper"), limit=4, batch_size=3)
    assert result["degraded"]["colours"] == pytest.approx(0, abs=1e-4)  # turning leaves mean colours alone
    assert result["random_tokens"]["colours"] > 0.01
    degraded = restorer.restore(
        [view_of(picture, 16) for picture in list(source)[:4]], RestorationSetting("rotation", "paper")
    )
    gaps = (batch(degraded.degraded).double() - batch(degraded.originals).double()).abs().mean() / 127.5
    assert result["degraded"]["difference"] == pytest.approx(float(gaps), rel=1e-5)
    single = evaluate_restoration(restorer, source, RestorationSetting("rotation", "paper"), limit=1)
    assert single["restored"]["colours"] is None


def test_examples_are_never_pictures_that_are_measured(restorer, source, noise, monkeypatch):
    seen = []
    original = example_views
    monkeypatch.setattr(module, "example_views", lambda *args: seen.append(original(*args)) or seen[-1])
    chosen = RestorationSetting("rotation", num_examples=2)
    evaluate_restoration(restorer, source, chosen, examples=source, limit=4, **WITHOUT)
    assert [view.picture.tobytes() for view in seen[0]] == [view_of(p, 16).picture.tobytes() for p in noise[4:]]
    for examples, limit, message in (
        (None, None, "all of the data is measured: give --examples, or --limit"),
        (source, None, "noise holds no picture that is not to be restored itself"),
        (None, 9, "noise behind the first 9 holds no picture"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate_restoration(restorer, source, chosen, examples=examples, limit=limit, **WITHOUT)


def test_mistakes_are_named(restorer, source):
    chosen = RestorationSetting("rotation", "paper")
    for options, message in (
        ({"perceptual": "best", "frechet": "none"}, "--perceptual none"),
        ({"perceptual": "none", "frechet": "best"}, "--frechet none"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate_restoration(restorer, source, chosen, **options)
    with pytest.raises(UserError, match="empty holds no picture, so there is nothing to measure"):
        evaluate_restoration(restorer, ImageSource("empty", 0, lambda: iter(())), chosen, **WITHOUT)


def test_random_tokens_fill_the_hole_alone():
    tokens = torch.zeros(2, 4, 4, dtype=torch.int64)
    tokens[1] = 1
    hole = hole_of("inpainting", 4, 4)
    filled = random_tokens(tokens, hole, torch.arange(50, 5000), 0)
    assert (filled[:, hole] >= 50).all() and torch.equal(filled[:, ~hole], tokens[:, ~hole])
    assert not torch.equal(filled[0, hole[None][0]], filled[1, hole])
    assert torch.equal(random_tokens(tokens[1:], hole, torch.arange(50, 5000), 0)[0], filled[1])
    assert not torch.equal(random_tokens(tokens, hole, torch.arange(50, 5000), 1), filled)
