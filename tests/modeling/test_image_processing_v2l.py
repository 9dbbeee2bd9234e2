"""Pictures of every kind become the same two views."""

import numpy as np
import pytest
import torch
from PIL import Image

from visual_sentence.modeling import V2LImageProcessor
from visual_sentence.modeling.image_processing_v2l import to_rgb


@pytest.fixture
def processor() -> V2LImageProcessor:
    return V2LImageProcessor(global_size=32, global_resize=36)


def test_views_have_the_stated_shapes_and_ranges(processor, picture):
    views = processor([picture, picture], return_tensors="pt")
    assert views["pixel_values"].shape == (2, 3, 128, 128)
    assert views["global_pixel_values"].shape == (2, 3, 32, 32)
    assert views["pixel_values"].min() >= -1 and views["pixel_values"].max() <= 1
    assert views["pixel_values"].dtype == views["global_pixel_values"].dtype == torch.float32


def test_pil_numpy_and_tensor_give_equal_views(processor, picture):
    array = np.asarray(picture)
    forms = [
        picture,
        array,
        array.transpose(2, 0, 1),
        torch.from_numpy(array.copy()).permute(2, 0, 1),
        torch.from_numpy(array.copy()).permute(2, 0, 1) / 255,
        array.astype(np.float64) / 255,
    ]
    expected = processor(forms[0], return_tensors="pt")
    for form in forms[1:]:
        views = processor(form, return_tensors="pt")
        assert torch.equal(views["pixel_values"], expected["pixel_values"])
        assert torch.equal(views["global_pixel_values"], expected["global_pixel_values"])


def test_four_dimensions_are_a_batch(processor):
    assert processor(np.zeros((3, 20, 20, 3), np.uint8))["pixel_values"].shape[0] == 3


def test_postprocess_undoes_the_local_view(processor):
    square = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8))
    back = processor.postprocess(processor(square, return_tensors="pt")["pixel_values"])[0]
    assert np.array_equal(np.asarray(back), np.asarray(square))


def test_global_view_by_hand():
    # a grey picture stays grey: (128/255 - mean) / std in every channel
    processor = V2LImageProcessor(global_size=8, global_mean=[0.5, 0.4, 0.3], global_std=[0.5, 0.25, 0.2])
    views = processor(Image.new("RGB", (30, 20), (128, 128, 128)), return_tensors="pt")["global_pixel_values"]
    expected = (torch.tensor(128 / 255) - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.5, 0.25, 0.2])
    torch.testing.assert_close(views[0], expected[:, None, None].expand(3, 8, 8))


def test_crop_keeps_the_centre_and_squash_keeps_all():
    wide = Image.new("RGB", (30, 10), "black")
    wide.paste("white", (10, 0, 20, 10))
    cropped = V2LImageProcessor(global_size=10)(wide, return_tensors="pt", do_local_view=False)
    squashed = V2LImageProcessor(global_size=10, global_crop=False)(wide, return_tensors="pt", do_local_view=False)
    assert cropped["global_pixel_values"].std((0, 2, 3)).max() < 0.1
    assert squashed["global_pixel_values"].std((0, 2, 3)).min() > 0.5
    assert set(cropped) == {"global_pixel_values"}


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.new("L", (4, 4), 100), (100, 100, 100)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 255)), (10, 20, 30)),
        (Image.new("LA", (4, 4), (50, 0)), (255, 255, 255)),
        (Image.new("RGB", (4, 4), (10, 20, 30)).convert("P", palette=Image.Palette.ADAPTIVE), (10, 20, 30)),
        (Image.new("CMYK", (4, 4), (0, 0, 0, 0)), (255, 255, 255)),
        (Image.fromarray(np.full((4, 4), 65535, np.uint16)), (255, 255, 255)),
        (Image.fromarray(np.full((4, 4), 32768, np.uint16)), (128, 128, 128)),
        (Image.fromarray(np.full((4, 4), 200, np.int32)), (200, 200, 200)),
        (Image.fromarray(np.full((4, 4), 65535, np.int32)), (255, 255, 255)),
    ],
    ids=["L", "1", "clear", "opaque", "LA", "P", "CMYK", "16-bit", "16-bit-half", "I-8", "I-16"],
)
def test_every_mode_becomes_rgb(picture, expected):
    rgb = to_rgb(picture)
    assert rgb.mode == "RGB" and rgb.getpixel((1, 1)) == expected


def test_exif_rotation_is_applied(picture):
    exif = picture.getexif()
    exif[274] = 6  # turned by 90 degrees
    picture.info["exif"] = exif.tobytes()
    assert to_rgb(picture).size == (40, 60)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 2)])
def test_tiny_and_thin_pictures_work(size, processor):
    views = processor(Image.new("RGB", size, "red"), return_tensors="pt")
    assert views["global_pixel_values"].shape == (1, 3, 32, 32)
    assert torch.isfinite(views["global_pixel_values"]).all()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((5, 4, 2)), "must have shape"),
        (np.zeros(4), "must have shape"),
        (np.full((4, 4, 3), 3.0), "floating-point pictures must lie in \\[0, 1\\]"),
        (np.full((4, 4, 3), -5), "Found values from -5"),
        (np.full((4, 4, 3), np.nan), "floating-point pictures"),
        ([], "No picture was given"),
    ],
)
def test_bad_arrays_are_named(bad, message, processor):
    with pytest.raises(ValueError, match=message):
        processor(bad)


def test_unknown_arguments_are_refused(processor, picture):
    with pytest.raises(TypeError, match="does not know size"):
        processor(picture, size=3)


def test_settings_survive_saving(tmp_path):
    processor = V2LImageProcessor(local_size=64, global_size=32, global_crop=False, global_mean=[0.1, 0.2, 0.3])
    processor.save_pretrained(tmp_path)
    loaded = V2LImageProcessor.from_pretrained(tmp_path)
    names = (
        "local_size",
        "global_size",
        "global_resize",
        "global_crop",
        "global_resample",
        "global_mean",
        "global_std",
    )
    assert [getattr(loaded, name) for name in names] == [getattr(processor, name) for name in names]
