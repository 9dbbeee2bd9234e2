"""Pictures to tokens and back: the model's own answers, in batches of any size, and in words where there are some."""

import numpy as np
import pytest
import torch
from PIL import Image

from visual_sentence import UserError
from visual_sentence.modeling import (
    SimLVMConfig,
    SimLVMForVisualSentence,
    SimLVMProcessor,
    V2LConfig,
    V2LImageProcessor,
    V2LModel,
    VQGANConfig,
    VQGANImageProcessor,
    VQGANModel,
)
from visual_sentence.reconstruction import ImageCodec, load_image_codec, reconstruct_pictures


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(np.int64)


def test_vqgan_by_the_models_own_calls(vqgan, noise):
    found = list(reconstruct_pictures(vqgan, noise, batch_size=4))
    views = vqgan.image_processor(noise, return_tensors="pt")["pixel_values"]
    tokens = vqgan.model.encode(views).image_tokens
    assert [item.image_tokens for item in found] == tokens.tolist()
    assert len(torch.unique(tokens)) > 8  # otherwise this shows nothing
    drawn = vqgan.model.decode(tokens)
    for item, view, values in zip(found, views, drawn, strict=True):
        assert item.original.size == item.reconstruction.size == (16, 16)
        expected = ((view.permute(1, 2, 0).numpy() + 1) * 127.5).round()
        assert np.array_equal(pixels(item.original), expected)  # the view is of 8 bits already: nothing is lost
        exact = ((values.clamp(-1, 1).permute(1, 2, 0).numpy() + 1) * 127.5).round()
        assert np.abs(pixels(item.reconstruction) - exact).max() <= 1  # batches round differently
        assert item.words is item.global_tokens is item.global_words is None
        assert item.distinct_tokens == len(np.unique(item.image_tokens))


def test_encode_and_decode_are_the_two_halves(vqgan, noise):
    tokens = vqgan.encode(noise[:3])
    assert tokens.image_tokens.shape == (3, 4, 4) and tokens.image_tokens.dtype == torch.int64
    for drawn, item in zip(vqgan.decode(tokens), vqgan.reconstruct(noise[:3]), strict=True):
        assert np.array_equal(pixels(drawn), pixels(item.reconstruction))
    assert (vqgan.codebook_size, vqgan.resolution, vqgan.words) == (40, 16, None)


@pytest.mark.parametrize("cross_attention", [None, "paper", "published-code"])
def test_v2l_speaks_in_words(make_v2l_codec, noise, cross_attention):
    codec = make_v2l_codec(cross_attention)
    found = list(reconstruct_pictures(codec, noise, batch_size=4))
    for item in found:
        assert item.words == [[f"word{token}" for token in row] for row in item.image_tokens]
        assert (item.global_tokens is None) is (cross_attention is None)
        if cross_attention is not None:
            vocabulary = codec.model.vocabulary.words
            assert item.global_words == [vocabulary[token] for token in item.global_tokens]
            assert len(item.global_words) == 3


def test_global_tokens_reach_the_decoder(make_v2l_codec, noise):
    codec = make_v2l_codec("paper")
    tokens = codec.encode(noise[:2])
    others = type(tokens)(tokens.image_tokens, (tokens.global_tokens + 5) % 12)
    for drawn, other in zip(codec.decode(tokens), codec.decode(others), strict=True):
        assert not np.array_equal(pixels(drawn), pixels(other))


def test_the_batch_size_changes_nothing(vqgan, make_v2l_codec, noise):
    for codec in (vqgan, make_v2l_codec("paper")):
        one, many = (list(reconstruct_pictures(codec, noise, size)) for size in (1, 11))
        for first, second in zip(one, many, strict=True):
            assert first.image_tokens == second.image_tokens
            assert first.global_tokens == second.global_tokens
            assert np.abs(pixels(first.reconstruction) - pixels(second.reconstruction)).max() <= 1


def test_pictures_are_taken_as_they_are_needed(vqgan, noise):
    taken = []

    def stream():
        for index, picture in enumerate(noise):
            taken.append(index)
            yield picture

    results = reconstruct_pictures(vqgan, stream(), batch_size=2)
    next(results)
    assert taken == [0, 1]


def test_saved_and_loaded(vqgan, make_v2l_codec, save_codec, noise):
    for codec in (vqgan, make_v2l_codec("paper"), make_v2l_codec(None)):
        folder = save_codec(codec, codec.name + str(codec.uses_global_tokens))
        loaded = load_image_codec(str(folder), device="cpu")
        assert loaded.name == str(folder)
        for first, second in zip(codec.reconstruct(noise), loaded.reconstruct(noise), strict=True):
            assert first.image_tokens == second.image_tokens and first.words == second.words
            assert np.array_equal(pixels(first.reconstruction), pixels(second.reconstruction))


def test_a_simlvm_writes_pictures_by_its_own_vqgan(vqgan, noise, tmp_path):
    text = {"model_type": "llama", "vocab_size": 40, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = SimLVMConfig(
        vqgan.model.config, {**text, "num_attention_heads": 2, "max_position_embeddings": 64}, max_images=4
    )
    model = SimLVMForVisualSentence(config)
    model.take_vqgan(vqgan.model)
    model.save_pretrained(tmp_path)
    processor = VQGANImageProcessor(local_size=16, local_fit="stretch")
    SimLVMProcessor(processor, tokens_per_image=16, max_images=4).save_pretrained(tmp_path)
    found = load_image_codec(str(tmp_path), "cpu")
    expected = ImageCodec(vqgan.model, processor, "stretched")
    assert found.resolution == 16 and found.codebook_size == 40
    for ours, theirs in zip(found.reconstruct(noise), expected.reconstruct(noise), strict=True):
        assert ours.image_tokens == theirs.image_tokens
        assert np.array_equal(pixels(ours.original), pixels(theirs.original))
    assert load_image_codec(str(tmp_path), "cpu", "bfloat16").dtype == torch.bfloat16


def test_sixteen_bits(vqgan, save_codec, noise):
    folder = str(save_codec(vqgan))
    codec = load_image_codec(folder, "cpu", "bfloat16")
    assert codec.model.quant_conv.weight.dtype == torch.bfloat16
    assert codec.reconstruct(noise[:2])[0].reconstruction.size == (16, 16)
    with pytest.raises(UserError, match=r"^Unknown dtype 'int3': choose one of float32, bfloat16, float16.$"):
        load_image_codec(folder, "cpu", "int3")


def test_models_that_draw_nothing(v2l_folder, tmp_path):
    with pytest.raises(UserError, match=r"without a local half.*describe.*VQGAN"):
        load_image_codec(str(v2l_folder))
    with pytest.raises(UserError, match=r"found nothing there"):
        load_image_codec(str(tmp_path / "nowhere"))
    sizes = {"image_size": 16, "block_out_channels": [8, 16], "norm_num_groups": 4, "local_embedding_dim": 6}
    config = V2LConfig(encoder_type=None, local_codebook_size=40, cross_attention="paper", **sizes)
    V2LModel(config).save_pretrained(tmp_path / "blind")
    V2LImageProcessor(local_size=16).save_pretrained(tmp_path / "blind")
    with pytest.raises(UserError, match=r"looks at words .* has no image tower.*convert --encoder"):
        load_image_codec(str(tmp_path / "blind"))
    with pytest.raises(UserError, match=r"without a local half"):
        ImageCodec(V2LModel(V2LConfig(encoder_type=None)), VQGANImageProcessor(local_size=16), "words only")


def test_models_and_processors_that_do_not_fit(vqgan):
    with pytest.raises(UserError, match=r"views of 18 pixels.*multiples of 4.*do not belong together"):
        ImageCodec(vqgan.model, VQGANImageProcessor(local_size=18), "mixed")
    grey = VQGANConfig(**{**vqgan.model.config.to_dict(), "num_channels": 1})
    with pytest.raises(UserError, match=r"images of 1 channels.*red, green and blue"):
        ImageCodec(VQGANModel(grey), VQGANImageProcessor(local_size=16), "grey")
