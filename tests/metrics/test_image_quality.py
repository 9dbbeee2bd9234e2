"""PSNR and SSIM against scikit-image and torchmetrics; means over images in pieces and merged."""

import math
import pickle

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio as torchmetrics_psnr
from torchmetrics.functional.image import structural_similarity_index_measure

from visual_sentence.errors import UserError
from visual_sentence.metrics import ImageQuality, RunningMean
from visual_sentence.metrics.image_quality import luma, psnr, psnr_y, ssim

MEASURES = [psnr, psnr_y, ssim]


def last(image: np.ndarray) -> np.ndarray:
    """Channels last, as scikit-image wants them."""
    return image.transpose(1, 2, 0)


def test_psnr_is_scikit_images_and_torchmetrics(pairs):
    found = psnr(*pairs)
    expected = [
        peak_signal_noise_ratio(reference, image, data_range=1) for image, reference in zip(*pairs, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    tensors = [torch.from_numpy(part) for part in pairs]
    other = torchmetrics_psnr(*tensors, data_range=1.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(found, other.double(), rtol=1e-5, atol=1e-5)


def test_luma_is_scikit_images(pairs):
    expected = rgb2ycbcr(last(pairs[0][0]))[:, :, 0]  # in [16, 235]
    np.testing.assert_allclose(luma(torch.from_numpy(pairs[0][:1]))[0, 0] * 255, expected, rtol=1e-12)
    extremes = luma(torch.tensor([0.0, 1.0]).double().view(2, 1, 1, 1).expand(2, 3, 1, 1)) * 255
    assert extremes.flatten().tolist() == pytest.approx([16, 235])


def test_psnr_of_the_luma_is_scikit_images(pairs):
    expected = [
        peak_signal_noise_ratio(rgb2ycbcr(last(reference))[..., 0], rgb2ycbcr(last(image))[..., 0], data_range=255)
        for image, reference in zip(*pairs, strict=True)
    ]
    np.testing.assert_allclose(psnr_y(*pairs), expected, rtol=1e-12)


def test_ssim_is_scikit_images_and_torchmetrics(pairs):
    found = ssim(*pairs)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    expected = [
        structural_similarity(last(reference), last(image), channel_axis=2, **options)
        for image, reference in zip(*pairs, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    tensors = [torch.from_numpy(part) for part in pairs]
    _, positions = structural_similarity_index_measure(
        *tensors, data_range=1.0, reduction="none", return_full_image=True
    )
    inside = positions[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))  # its own mean includes mirrored borders
    torch.testing.assert_close(found, inside, rtol=1e-6, atol=1e-6)


def test_psnr_on_paper():
    # every value off by 0.1: MSE 0.01, 20 dB
    assert psnr(torch.full((1, 3, 4, 4), 0.6), torch.full((1, 3, 4, 4), 0.5)).item() == pytest.approx(20, abs=1e-4)


@pytest.mark.parametrize("measure", MEASURES)
def test_eight_bit_and_float_images_give_the_same(measure, pairs):
    eight_bit = [(part * 255).round().astype(np.uint8) for part in pairs]
    assert torch.equal(measure(*eight_bit), measure(*(part / 255.0 for part in eight_bit)))
    assert torch.equal(measure(*eight_bit), measure(*(torch.from_numpy(part) for part in eight_bit)))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("value", "dtype", "found"),
    [
        (-0.5, torch.float32, "from -0.5 to 1"),
        (255.0, torch.float32, "from 0 to 255"),
        (math.nan, torch.float32, "from nan to nan"),
        (7, torch.int64, "torch.int64"),
    ],
)
def test_other_ranges_are_refused_and_named(measure, value, dtype, found):
    bad = torch.tensor([0, 1]).to(dtype).repeat(3, 16, 8)[None].clone()
    good = torch.zeros(1, 3, 16, 16)
    assert bad.shape == good.shape
    bad[0, 0, 0, 0] = value
    for pair in ((bad, good), (good, bad)):
        with pytest.raises(UserError, match=found):
            measure(*pair)


@pytest.mark.parametrize("measure", MEASURES)
def test_other_shapes_are_refused_and_named(measure):
    with pytest.raises(UserError, match=r"\[1, 16, 16, 3\].*channels first"):
        measure(torch.zeros(1, 16, 16, 3), torch.zeros(1, 16, 16, 3))
    with pytest.raises(UserError, match="differ in shape"):
        measure(torch.zeros(1, 3, 16, 16), torch.zeros(2, 3, 16, 16))


def test_ssim_needs_room_for_its_window():
    with pytest.raises(UserError, match="found 10 x 16"):
        ssim(torch.zeros(1, 3, 10, 16), torch.zeros(1, 3, 10, 16))
    assert ssim(torch.zeros(1, 3, 11, 11), torch.zeros(1, 3, 11, 11)).item() == 1


def test_pieces_and_merged_parts_are_the_whole(pairs):
    whole, first, second = ImageQuality(), ImageQuality(), ImageQuality()
    whole.update(*pairs)
    first.update(*(part[:1] for part in pairs))
    first.update(*(part[1:3] for part in pairs))
    second.update(*(part[3:] for part in pairs))
    first.merge(pickle.loads(pickle.dumps(second)))  # as it comes from another process
    expected = {"psnr": psnr(*pairs).mean(), "psnr_y": psnr_y(*pairs).mean(), "ssim": ssim(*pairs).mean()}
    for found in (whole.compute(), first.compute()):
        assert found.pop("n") == 7 and found.pop("identical") == 0
        assert found == pytest.approx({name: value.item() for name, value in expected.items()}, rel=1e-14)


def test_equal_images_are_counted_and_not_in_the_mean(pairs):
    images, references = pairs[0].copy(), pairs[1]
    images[2] = references[2]
    assert psnr(images, references)[2] == math.inf
    quality = ImageQuality()
    quality.update(images, references)
    others = [index for index in range(7) if index != 2]
    found = quality.compute()
    assert found["psnr"] == pytest.approx(psnr(images[others], references[others]).mean().item())
    assert found["ssim"] == pytest.approx(ssim(images, references).mean().item())
    assert (found["n"], found["identical"]) == (7, 1)
    quality = ImageQuality()
    quality.update(references, references)
    assert quality.compute() == {"psnr": math.inf, "psnr_y": math.inf, "ssim": 1.0, "n": 7, "identical": 7}


def test_a_refused_batch_is_not_counted_in_part():
    quality = ImageQuality()
    small = torch.zeros(1, 3, 8, 8)  # enough for PSNR, not for SSIM
    with pytest.raises(UserError):
        quality.update(small, small)
    assert all(measure.n == 0 for measure in quality.measures.values())
    with pytest.raises(UserError, match="No images were added"):
        quality.compute()


def test_a_mean_of_nan_is_refused():
    with pytest.raises(UserError, match="NaN"):
        RunningMean().update([0.0, math.nan])
