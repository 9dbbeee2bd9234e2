"""The pipeline by its task's name: tokens and pictures as the codec gives them, however the pictures come."""

import numpy as np
import pytest
from PIL import Image
from transformers import pipeline

from visual_sentence import UserError
from visual_sentence.pipelines import RECONSTRUCTION_TASK, ImageReconstructionPipeline
from visual_sentence.reconstruction import ImageCodec

from ..reconstruction.conftest import WORDS, make_v2l_codec, noise, save_codec, vqgan  # noqa: F401  (fixtures)


@pytest.fixture(params=["vqgan", "v2l", "v2l with global words"])
def codec(request, vqgan, make_v2l_codec) -> ImageCodec:  # noqa: F811
    return vqgan if request.param == "vqgan" else make_v2l_codec("paper" if "global" in request.param else None)


def over(codec: ImageCodec) -> ImageReconstructionPipeline:
    return ImageReconstructionPipeline(codec.model, image_processor=codec.image_processor, device="cpu")


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=int)


def alike(first: Image.Image, second: Image.Image) -> bool:
    """Whether two pictures are the same up to the rounding to 8 bits, which a batch's other pictures may turn."""
    return first.size == second.size and abs(pixels(first) - pixels(second)).max() <= 1


def test_the_task_gives_our_pipeline(codec, save_codec, noise):  # noqa: F811
    reconstruct = pipeline(RECONSTRUCTION_TASK, model=str(save_codec(codec)), device="cpu")
    assert type(reconstruct) is ImageReconstructionPipeline and reconstruct.task == "image-reconstruction"
    found, expected = reconstruct(noise[5]), over(codec)(noise[5])
    assert alike(found["image"], expected["image"])
    assert found["image_tokens"] == expected["image_tokens"] and found["words"] == expected["words"]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_every_picture_is_what_its_tokens_are_drawn_as(batch_size, codec, noise):  # noqa: F811
    found = over(codec)(noise, batch_size=batch_size)
    maps = set()
    for picture, row in zip(noise, found, strict=True):
        tokens = codec.encode([picture])
        (drawn,) = codec.decode(tokens)
        assert row["image_tokens"] == tokens.image_tokens[0].tolist()
        assert alike(row["image"], drawn) and row["original"].size == (16, 16)
        if codec.is_v2l:
            assert row["words"] == [[WORDS[token] for token in line] for line in row["image_tokens"]]
        else:
            assert row["words"] is None
        if codec.uses_global_tokens:
            assert row["global_tokens"] == tokens.global_tokens[0].tolist()
            assert row["global_words"] == tokens.global_words[0] and len(row["global_words"]) == 3
        else:
            assert row["global_tokens"] is None and row["global_words"] is None
        maps.add(str(row["image_tokens"]))
    assert len(maps) == len(noise)  # different pictures, so a mix-up of rows would be seen


def test_the_original_is_the_models_view(codec, noise):  # noqa: F811
    processor = codec.image_processor
    views = processor([noise[3]], return_tensors="pt", do_global_view=False)["pixel_values"]
    (expected,) = processor.postprocess(views)
    assert (pixels(over(codec)(noise[3])["original"]) == pixels(expected)).all()


def test_broken_pictures_are_reported_in_a_stream(codec, noise):  # noqa: F811
    reconstruct = over(codec)
    first, second, third = reconstruct(iter([noise[0], "missing.png", noise[1]]), on_error="report", batch_size=2)
    assert "no such file" in second["error"]
    for picture, row in ((noise[0], first), (noise[1], third)):
        assert row["image_tokens"] == reconstruct(picture)["image_tokens"]


def test_a_codebook_without_words_has_tokens_alone(make_v2l_codec, noise):  # noqa: F811
    row = over(make_v2l_codec(None, words=False))(noise[0])
    assert row["words"] is None and len(row["image_tokens"]) == 4


def test_mistakes_are_named(make_v2l, vqgan, noise, save_codec):  # noqa: F811
    with pytest.raises(UserError, match="local"):
        ImageReconstructionPipeline(make_v2l(), image_processor=vqgan.image_processor, device="cpu")
    with pytest.raises(UserError, match="does not know num_words"):
        over(vqgan)(noise[0], num_words=3)
