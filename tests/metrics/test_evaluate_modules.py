"""The `evaluate` modules, loaded by path: equal to the package's arithmetic, however the inputs come."""

from concurrent.futures import ThreadPoolExecutor

import evaluate
import numpy as np
import pytest
import torch
import torchvision

from visual_sentence.errors import UserError
from visual_sentence.features import FrechetStatistics, frechet_distance, load_frechet_features
from visual_sentence.features.frozen import hub_checkpoint
from visual_sentence.features.perceptual import LPIPS_BACKBONES, OfflineTowerDistance
from visual_sentence.metrics import METRICS, CodebookCounts, ImageQuality, SegmentationOverlap, metric_path
from visual_sentence.metrics.embeddings import clip_r, clip_score
from visual_sentence.metrics.image_quality import psnr

IMAGE_METRICS = ("psnr", "ssim", "perceptual_distance", "frechet")


@pytest.fixture
def expected(pairs, tower) -> dict[str, dict[str, float]]:
    """What the package's own arithmetic gives."""
    quality = ImageQuality()
    quality.update(*pairs)
    found = quality.compute()
    images = [torch.from_numpy(part).float() * 2 - 1 for part in pairs]
    features = load_frechet_features("offline-tower")
    sets = [FrechetStatistics(features.dim) for _ in pairs]
    for statistics, part in zip(sets, images, strict=True):
        statistics.update(features(part))
    frechet = frechet_distance(sets[0].mean, sets[0].cov, sets[1].mean, sets[1].cov)
    return {
        "psnr": {name: found[name] for name in ("psnr", "psnr_y", "identical")},
        "ssim": {"ssim": found["ssim"]},
        "perceptual_distance": {"offline-tower-distance": OfflineTowerDistance(tower)(*images).mean().item()},
        "frechet": {"offline-tower-frechet-distance": frechet},
    }


def test_every_metric_loads_and_describes_itself():
    for name in METRICS:
        metric = evaluate.load(metric_path(name))
        assert "Args:" in metric.inputs_description and len(metric.description) > 60
    with pytest.raises(UserError, match="'fid' is no metric of this package"):
        metric_path("fid")


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_images_at_once_and_in_pieces(name, pairs, expected):
    metric = evaluate.load(metric_path(name))
    expected = {**expected[name], "n": 7}
    predictions, references = pairs
    assert metric.compute(predictions=predictions, references=references) == pytest.approx(expected, rel=1e-5)
    metric.add_batch(predictions=torch.from_numpy(predictions[:3]), references=torch.from_numpy(references[:3]))
    metric.add(prediction=predictions[3], reference=references[3])
    metric.add_batch(predictions=list(predictions[4:6]), references=list(references[4:6]))
    found = metric.compute(predictions=predictions[6:].tolist(), references=references[6:].tolist())
    assert found == pytest.approx(expected, rel=1e-5)


def test_eight_bit_pictures_of_different_sizes():
    generator = np.random.default_rng(0)
    sizes = [(16, 20), (33, 12)]
    images, references = ([generator.integers(0, 256, (3, *size), np.uint8) for size in sizes] for _ in range(2))
    found = evaluate.load(metric_path("psnr")).compute(predictions=images, references=references)
    values = [psnr(image[None], reference[None]).item() for image, reference in zip(images, references, strict=True)]
    assert found["psnr"] == pytest.approx(np.mean(values)) and found["n"] == 2


def test_metrics_of_images_combine(pairs, expected):
    combined = evaluate.combine([evaluate.load(metric_path(name)) for name in ("psnr", "ssim")])
    combined.add_batch(predictions=pairs[0], references=pairs[1])
    found = combined.compute()
    assert {name: found[name] for name in ("psnr", "ssim")} == pytest.approx(
        {"psnr": expected["psnr"]["psnr"], "ssim": expected["ssim"]["ssim"]}
    )


@pytest.mark.parametrize("name", ["psnr", "frechet", "iou"])
def test_two_processes_are_one(name, pairs, expected, tmp_path):
    predictions, references = pairs if name != "iou" else (part[:, 0] > 0.5 for part in pairs)

    def work(process: int) -> dict | None:
        metric = evaluate.load(
            metric_path(name), num_process=2, process_id=process, experiment_id=name, cache_dir=str(tmp_path)
        )
        mine = slice(0, 4) if process == 0 else slice(4, None)
        metric.add_batch(predictions=predictions[mine], references=references[mine])
        return metric.compute()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, range(2))
    if name == "iou":
        overlap = SegmentationOverlap()
        overlap.update(predictions, references)
        whole = {key: value for key, value in overlap.compute().items() if key in ("iou", "iou_images")}
    else:
        whole = expected[name]
    assert second is None and first["n"] == 7
    assert {key: first[key] for key in whole} == pytest.approx(whole, rel=1e-5)


def test_lpips_is_lpips_or_nothing(pairs, tower):
    metric = evaluate.load(metric_path("lpips"))
    with pytest.raises(UserError, match="LPIPS needs"):
        metric.compute(predictions=pairs[0], references=pairs[1])
    path = hub_checkpoint(LPIPS_BACKBONES["squeeze"])
    path.parent.mkdir(parents=True)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    for name, config in (("lpips", None), ("lpips", "squeeze"), ("perceptual_distance", "lpips")):
        found = evaluate.load(metric_path(name), config).compute(predictions=pairs[0], references=pairs[1])
        assert found.keys() == {"lpips-squeeze", "n"} and found["lpips-squeeze"] > 0
    chosen = evaluate.load(metric_path("perceptual_distance"), "offline-tower")
    assert "offline-tower-distance" in chosen.compute(predictions=pairs[0], references=pairs[1])


def test_codebook_usage():
    metric = evaluate.load(metric_path("codebook_usage"))
    tokens = torch.randint(0, 60, (5, 4, 4))
    counts = CodebookCounts(64)
    counts.update(tokens)
    metric.add_batch(predictions=tokens[:2])
    metric.add_batch(predictions=[part.numpy() for part in tokens[2:4]])
    metric.add(prediction=tokens[4].tolist())
    assert metric.compute(codebook_size=64) == pytest.approx(counts.compute())
    metric.add_batch(predictions=tokens)
    with pytest.raises(UserError, match=r"\[0, 10\), found 0 to"):
        metric.compute(codebook_size=10)


def test_overlap():
    predictions, references = torch.randint(0, 4, (2, 5, 8, 9))
    references[0, :2] = 255
    overlap = SegmentationOverlap("labels", ignore_index=255, background=0)
    overlap.update(predictions, references)
    whole = overlap.compute()
    for name in ("dice", "iou"):
        metric = evaluate.load(metric_path(name))
        metric.add_batch(predictions=predictions[:2], references=references[:2])
        metric.add_batch(predictions=list(predictions[2:]), references=[part.numpy() for part in references[2:]])
        found = metric.compute(task="labels", ignore_index=255, background=0)
        assert found == {key: whole[key] for key in (name, f"{name}_images", f"{name}_per_class", "n")}
    metric = evaluate.load(metric_path("dice"))
    assert metric.compute(predictions=predictions[:1] > 1, references=references[1:2] > 1)["n"] == 1
    with pytest.raises(UserError, match="0 and 1 only"):
        metric.compute(predictions=predictions, references=references)


def test_clip_metrics():
    generator = np.random.default_rng(0)
    vocabulary, images = generator.normal(size=(20, 6)), generator.normal(size=(5, 6))
    words = generator.integers(0, 20, (5, 3))
    metric = evaluate.load(metric_path("clip_score"))
    metric.add_batch(predictions=vocabulary[words[:2]], references=images[:2])
    found = metric.compute(predictions=list(vocabulary[words[2:]]), references=list(images[2:]))
    assert found == pytest.approx({"clip_score": clip_score(vocabulary[words], images).mean().item(), "n": 5})
    metric = evaluate.load(metric_path("clip_r"))
    metric.add_batch(predictions=words[:2], references=images[:2], vocabulary=vocabulary)
    found = metric.compute(predictions=words[2:], references=images[2:], vocabulary=vocabulary)
    assert found == pytest.approx({"clip_r": clip_r(words, images, vocabulary).mean().item(), "n": 5})
    with pytest.raises(UserError, match="clip_r needs vocabulary"):
        metric.compute(predictions=words, references=images)


def test_mistakes_are_named(pairs):
    metric = evaluate.load(metric_path("psnr"))
    with pytest.raises(UserError, match="Nothing was added to psnr"):
        metric.compute()
    with pytest.raises(UserError, match="psnr needs references, found none"):
        metric.add_batch(predictions=pairs[0])
    with pytest.raises(UserError, match="7 predictions for 6"):
        metric.add_batch(predictions=pairs[0], references=pairs[1][:6])
    with pytest.raises(UserError, match="from -1 to"):
        metric.add_batch(predictions=pairs[0] * 0 - 1, references=pairs[1])
    with pytest.raises(UserError, match="no input called data_range"):
        metric.add_batch(predictions=pairs[0], references=pairs[1], data_range=255)
