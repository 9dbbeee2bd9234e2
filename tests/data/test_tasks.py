"""Every task against plain computations."""

import colorsys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from visual_sentence import UserError
from visual_sentence.data import TASKS, Example, make_task
from visual_sentence.data.corruptions import sobel_edges
from visual_sentence.data.medical import stain_amounts, stained
from visual_sentence.data.palettes import distinct_colours

LABELS = np.array([[0, 1, 1, 2], [3, 3, 0, 2]])
SMALL = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10)


def labelled(**fields) -> Example:
    return Example(SMALL, "small", **{"label_map": LABELS, **fields})


def flat(value: int, side: int = 64) -> Example:
    return Example(Image.new("RGB", (side, side), (value,) * 3), "flat")


def solve(name: str, example: Example, seed: int = 0, **options):
    return make_task(name, **options).pair(example, np.random.default_rng(seed))


def difference(pair) -> np.ndarray:
    return np.asarray(pair.input, np.float64) - np.asarray(pair.target, np.float64)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_makes_pairs_of_one_size_and_repeats_itself(name, noise):
    labels = np.arange(480).reshape(20, 24) % 3
    example = Example(noise, "noise", mask=labels > 0, label_map=labels, target=noise)
    before = noise.tobytes()
    pair, again, other = (solve(name, example, seed) for seed in (0, 0, 1))
    assert pair.input.mode == pair.target.mode == "RGB"
    assert pair.input.size == pair.target.size == (24, 20)
    assert pair.source == "noise" and noise.tobytes() == before
    assert pair.input.tobytes() == again.input.tobytes() and pair.target.tobytes() == again.target.tobytes()
    drawn = {"denoising", "brightness", "contrast", "deblurring", "deraining", "inpainting", "stain_brightness"}
    assert (pair.input.tobytes() != other.input.tobytes()) == (name in drawn | {"rotation"})
    assert make_task(name).reads_back == {"segmentation": "mask", "palette_segmentation": "labels"}.get(name, "image")


def test_segmentation_of_a_mask():
    pair = solve("segmentation", labelled(mask=LABELS == 2))
    assert pair.input is SMALL and pair.setting == ""
    assert (np.asarray(pair.target) == np.where(LABELS == 2, 255, 0)[..., None]).all()


def test_segmentation_of_a_class():
    pair = solve("segmentation", labelled(mask=LABELS == 2), foreground=3)
    assert pair.setting == "foreground=3"
    assert (np.asarray(pair.target)[..., 1] == np.where(LABELS == 3, 255, 0)).all()
    task = make_task("segmentation", foreground="4")
    assert not task.fits(labelled(), "") and make_task("segmentation", foreground="0").fits(labelled(), "")


def test_any_foreground_is_drawn_among_what_is_there(rng):
    task = make_task("segmentation", foreground="any")
    drawn = {task.setting(rng, labelled()) for _ in range(60)}
    assert drawn == {"foreground=1", "foreground=2", "foreground=3"}
    pair = task.pair(labelled(), rng, "data=x,foreground=2")
    assert (np.asarray(pair.target)[..., 0] == np.where(LABELS == 2, 255, 0)).all()
    assert task.fits(labelled(), "") and not task.fits(labelled(label_map=np.zeros((2, 4), np.int64)), "")
    assert not task.fits(labelled(), "foreground=9")


def test_a_palette_gives_each_named_class_its_colour():
    task = make_task("palette_segmentation", classes="1,3")
    first, second = distinct_colours()[:2]
    assert task.palette() == [(0, 0, 0), first, (0, 0, 0), second]
    target = np.asarray(task.pair(labelled(), np.random.default_rng(0)).target)
    for row in range(2):
        for column in range(4):
            assert tuple(target[row, column]) == {1: first, 3: second}.get(LABELS[row, column], (0, 0, 0))
    far = labelled(label_map=LABELS * 1000)  # classes beyond the palette are black
    assert np.asarray(task.pair(far, np.random.default_rng(0)).target).max() == 0
    assert make_task("palette_segmentation", classes="0-2").palette()[0] == first


def test_random_colours_belong_to_the_setting(rng):
    task = make_task("palette_segmentation", colours="random", palettes="5")
    settings = {task.setting(rng) for _ in range(60)}
    assert settings == {f"palette={number}" for number in range(5)}
    palettes = [tuple(task.palette(setting)) for setting in sorted(settings)]
    assert len(set(palettes)) == 5
    assert all(sorted(palette) == sorted(palettes[0]) and palette[0] == (0, 0, 0) for palette in palettes)
    targets = [task.pair(labelled(), rng, "palette=2").target.tobytes() for _ in range(2)]
    assert targets[0] == targets[1]
    with pytest.raises(UserError, match="setting"):
        task.palette()


def test_colours_of_a_palette_are_far_apart():
    colours = np.array([(0, 0, 0), *distinct_colours()], np.float64)
    distances = [np.linalg.norm(colours[one] - colours[two]) for one in range(len(colours)) for two in range(one)]
    assert min(distances) > 90


def test_instances_have_a_colour_each_and_background_is_black():
    target = np.asarray(solve("instance_segmentation", labelled()).target)
    found = {int(number): {tuple(pixel) for pixel in target[number == LABELS]} for number in range(4)}
    assert found[0] == {(0, 0, 0)}
    assert all(len(colours) == 1 for colours in found.values()) and len(set.union(*found.values())) == 4


def test_gaussian_noise_has_its_deviation():
    spread = difference(solve("denoising", flat(128), sigma=25))
    assert spread.std() == pytest.approx(25, rel=0.02) and abs(spread.mean()) < 1
    ranges = [difference(solve("denoising", flat(128), seed, sigma="10-50")).std() for seed in range(20)]
    assert min(ranges) > 9 and max(ranges) < 51 and max(ranges) - min(ranges) > 15


def test_poisson_noise_grows_with_the_root_of_light():
    for value in (30, 120):
        spread = difference(solve("denoising", flat(value), kind="poisson", sigma=20))
        assert spread.std() == pytest.approx(20 * np.sqrt(value / 127.5), rel=0.05)
    assert difference(solve("denoising", flat(0), kind="poisson", sigma=20)).max() == 0


def test_salt_and_pepper_hits_its_share():
    pixels = np.asarray(solve("denoising", flat(100), kind="salt-and-pepper", amount=0.2).input)
    assert (pixels == pixels[..., :1]).all()  # a pixel is hit as a whole
    assert (pixels[..., 0] == 255).mean() == pytest.approx(0.1, abs=0.015)
    assert (pixels[..., 0] == 0).mean() == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_brightness_scales_the_value_of_hsv(noise, factor):
    pair = solve("brightness", Example(noise, "noise"), factor=factor)
    for before, after in zip(np.asarray(noise).reshape(-1, 3), np.asarray(pair.input).reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(before / 255))
        expected = np.array(colorsys.hsv_to_rgb(hue, saturation, min(1, value * factor))) * 255
        assert np.abs(after - expected).max() <= 0.51


def test_contrast_moves_away_from_the_mean(noise):
    pair = solve("contrast", Example(noise, "noise"), factor=0.5)
    mean = round(np.asarray(noise.convert("L")).mean())
    assert np.abs(np.asarray(pair.input) - (mean + 0.5 * (np.asarray(noise, np.float64) - mean))).max() <= 1


def test_blur_is_gaussian_and_grows_with_the_picture():
    values = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    for side, scale in ((128, 1.0), (64, 0.5)):
        example = Example(Image.fromarray(values[:side, :side]), "x")
        blurred = np.asarray(solve("deblurring", example, width=11).input, np.float64)
        wanted = ndimage.gaussian_filter(values[:side, :side].astype(float), (2.0 * scale, 2.0 * scale, 0))
        inside = slice(8, -8)
        spread = wanted[inside, inside].std()
        assert np.abs(blurred - wanted)[inside, inside].mean() < 0.2 * spread  # PIL's are three boxes


def test_rain_only_brightens_along_its_direction():
    upright = difference(solve("deraining", flat(100, 128), angle=0, length=30, density=4))
    assert upright.min() == 0 and 0.02 < (upright > 20).mean() < 0.5
    grey = upright[..., 0]
    assert np.abs(np.diff(grey, axis=0)).mean() < 0.3 * np.abs(np.diff(grey, axis=1)).mean()
    tilted = difference(solve("deraining", flat(100, 128), angle=45, length=30, density=1))[..., 0]
    along = np.abs(tilted[1:, 1:] - tilted[:-1, :-1]).mean()  # 45 degrees: to the right as it falls
    assert along < 0.6 * np.abs(tilted[1:, :-1] - tilted[:-1, 1:]).mean()
    assert np.abs(difference(solve("deraining", flat(100), density=0))).max() == 0


def test_a_hole_is_a_black_square():
    sides = set()
    for seed in range(15):
        rows, columns = np.nonzero(difference(solve("inpainting", flat(200, 40), seed))[..., 0])
        side = rows.max() - rows.min() + 1
        assert side == columns.max() - columns.min() + 1 and len(rows) == side**2
        sides.add(int(side))
    assert min(sides) >= 4 and max(sides) <= 20 and len(sides) > 5


def test_colourisation_shows_rec_601_grey(noise):
    pair = solve("colourisation", Example(noise, "noise"))
    grey = np.asarray(noise, np.float64) @ [0.299, 0.587, 0.114]
    assert np.abs(np.asarray(pair.input) - grey[..., None]).max() <= 1
    assert pair.target.tobytes() == noise.tobytes()


def test_low_resolution_loses_detail_and_keeps_means(noise):
    pair = solve("super_resolution", Example(noise.resize((64, 64)), "x"), scale=8)
    before, after = np.asarray(pair.target, np.float64), np.asarray(pair.input, np.float64)
    assert after.std() < before.std() and np.abs(after.mean() - before.mean()) < 1
    assert np.abs(difference(solve("super_resolution", flat(77)))).max() == 0


def test_rotation_shares_its_angle(noise, rng):
    task = make_task("rotation")
    assert {task.setting(rng) for _ in range(40)} == {"degrees=90", "degrees=180", "degrees=270"}
    square = Example(noise.crop((0, 0, 20, 20)), "x")
    pair = solve("rotation", square, degrees=90)
    assert (np.asarray(pair.input) == np.rot90(np.asarray(square.image))).all() and pair.setting == "degrees=90"


def test_edges_are_sobels(noise):
    grey = np.asarray(noise.convert("L"), np.float64)
    wanted = np.hypot(ndimage.sobel(grey, 0, mode="nearest"), ndimage.sobel(grey, 1, mode="nearest")) / 4
    assert np.abs(np.asarray(sobel_edges(noise))[..., 0] - wanted.clip(0, 255)).max() <= 0.51
    step = Image.fromarray(np.repeat(np.array([[0, 0, 255, 255]] * 4, np.uint8)[..., None], 3, axis=2))
    assert np.asarray(sobel_edges(step))[1, :, 0].tolist() == [0, 255, 255, 0]


def test_stains_are_skimages(noise):
    color = pytest.importorskip("skimage.color", reason="needs scikit-image")
    assert np.abs(np.maximum(stain_amounts(noise), 0) - color.rgb2hed(np.asarray(noise))).max() < 1e-9
    assert stained(stain_amounts(noise)).tobytes() == noise.tobytes()


def test_stain_brightness_scales_two_stains():
    purple = Example(Image.new("RGB", (4, 4), (150, 90, 170)), "x")
    before, after = (stain_amounts(solve("stain_brightness", purple, factor=f).input)[0, 0] for f in (1, 0.5))
    assert after[:2] == pytest.approx(before[:2] / 2, abs=2e-3) and after[2] == pytest.approx(before[2], abs=2e-3)
    assert np.asarray(solve("stain_brightness", purple, factor=1).input).tolist() == np.asarray(purple.image).tolist()


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("segmenting", {}, "segmentation, palette_segmentation"),
        ("denoising", {"sigma": "0"}, "sigma=0"),
        ("denoising", {"sigma": "50-10"}, "range"),
        ("denoising", {"sgima": "5"}, "kind, sigma, amount"),
        ("denoising", {"kind": "salt"}, "salt-and-pepper"),
        ("denoising", {"kind": "salt-and-pepper", "sigma": "5"}, "amount"),
        ("edges", {"width": "5"}, "it has none"),
        ("segmentation", {"foreground": "road"}, "index"),
        ("palette_segmentation", {"classes": "1,1"}, "twice"),
        ("palette_segmentation", {"classes": "3-1"}, "1,2,5"),
        ("palette_segmentation", {"classes": "0-30"}, "31 classes"),
        ("super_resolution", {"scale": "1"}, "from 2"),
        ("rotation", {"degrees": "45"}, "any, 90"),
    ],
)
def test_wrong_options_are_named_in_one_line(name, options, says):
    with pytest.raises(UserError, match=says) as caught:
        make_task(name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("segmentation", "foreground=INDEX"),
        ("pairs", "no target"),
        ("instance_segmentation", None),
    ],
)
def test_examples_that_lack_something_are_named(name, says, rng):
    if says is None:
        with pytest.raises(UserError, match="small has no label map"):
            make_task(name).pair(Example(SMALL, "small"), rng)
    else:
        with pytest.raises(UserError, match=says):
            make_task(name).pair(labelled(), rng)
    for foreground in ("any", "3"):
        task = make_task("segmentation", foreground=foreground)
        for ask in (
            lambda task=task: task.fits(Example(SMALL, "small"), ""),
            lambda task=task: task.pair(flat(0), rng),
        ):
            with pytest.raises(UserError, match="has no label map, but segmentation needs"):
                ask()
    with pytest.raises(UserError, match="class 25"):
        make_task("palette_segmentation").pair(labelled(label_map=LABELS + 22), rng)
