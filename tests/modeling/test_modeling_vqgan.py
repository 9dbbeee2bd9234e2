"""The VQGAN: the documented sizes, the losses, saving and loading, what it refuses."""

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModel

from visual_sentence.modeling import VQGANConfig, VQGANImageProcessor, VQGANModel
from visual_sentence.modeling.convolutional_codec import UpsampleConvolution

VARIANTS = {
    "learned": {},
    "simvq": {"codebook": "simvq"},
    "everything": {
        "quantizer_gradient": "rotation",
        "normalize_latents": True,
        "value_range": "unit",
        "attention_levels": [1],
        "mid_block_attention": True,
        "reconstruction_loss": "l2",
        "codebook_loss_weight": 0.25,
        "commitment_loss_weight": 1.0,
    },
}


@pytest.fixture(params=VARIANTS)
def model(request, make_vqgan) -> VQGANModel:
    return make_vqgan(**VARIANTS[request.param])


@pytest.fixture
def pixel_values() -> torch.Tensor:
    return torch.rand(3, 3, 16, 16) * 2 - 1


def test_losses_are_what_their_names_say(model, pixel_values):
    output, config = model.train()(pixel_values), model.config
    difference = F.l1_loss if config.reconstruction_loss == "l1" else F.mse_loss
    assert torch.allclose(output.reconstruction_loss, difference(output.pixel_values, pixel_values))
    codes = model.quantizer.lookup(output.image_tokens)
    assert torch.allclose(output.codebook_loss, F.mse_loss(codes, output.latents.float()))
    assert torch.allclose(output.commitment_loss, output.codebook_loss)
    total = (
        output.reconstruction_loss
        + config.codebook_loss_weight * output.codebook_loss
        + config.commitment_loss_weight * output.commitment_loss
    )
    assert torch.allclose(output.loss, total)


def test_every_trainable_parameter_is_reached(model, pixel_values):
    model.train()(pixel_values).loss.backward()
    silent = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert silent == []
    assert len(model.trainable_parameters()) == len(list(model.parameters()))


def test_encode_and_decode_are_the_halves_of_forward(model, pixel_values):
    output = model(pixel_values)
    tokens = model.encode(pixel_values).image_tokens
    assert tokens.shape == (3, 8, 8) and torch.equal(tokens, output.image_tokens)
    pixels = model.decode(tokens)
    assert torch.allclose(pixels, output.pixel_values, atol=1e-5)
    assert torch.equal(model.decode(tokens.flatten(1)), pixels)
    alone = torch.cat([model.encode(image[None]).image_tokens for image in pixel_values])
    assert torch.equal(alone, tokens)


def test_saved_and_loaded_model_is_the_same_in_every_tensor(model, pixel_values, tmp_path):
    model.save_pretrained(tmp_path)
    VQGANImageProcessor(local_size=16).save_pretrained(tmp_path)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert [path.name for path in tmp_path.iterdir() if path.suffix in (".safetensors", ".bin")] == [
        "model.safetensors"
    ]
    for (name, ours), theirs in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert theirs.device.type == "cpu" and torch.equal(ours, theirs), name
    assert torch.equal(loaded.encode(pixel_values).image_tokens, model.encode(pixel_values).image_tokens)
    assert sum(p.requires_grad for p in loaded.parameters()) == sum(p.requires_grad for p in model.parameters())
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    assert processor.local_size == 16 and list(processor.model_input_names) == ["pixel_values"]


def test_bfloat16_keeps_the_codebook_in_float32(model, pixel_values, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.quantizer.codebook.dtype == torch.float32
    assert loaded.quant_conv.weight.dtype == torch.bfloat16
    output = loaded(pixel_values)
    assert output.pixel_values.shape == pixel_values.shape and torch.isfinite(output.loss)


def test_images_by_parts_and_short_kernels_give_the_same(model, pixel_values, monkeypatch):
    with torch.enable_grad():  # the plain way
        whole = model(pixel_values)
    monkeypatch.setattr("visual_sentence.modeling.convolutional_codec.CPU_PIXELS", 2 * 16 * 16)
    tokens = model.encode(pixel_values).image_tokens
    assert torch.equal(tokens, whole.image_tokens)
    assert torch.allclose(model.decode(tokens), whole.pixel_values, atol=1e-5)


@pytest.mark.parametrize("patch_size", [2, 4])
def test_patches_enter_as_channels_of_one_place(make_vqgan, patch_size):
    model = make_vqgan(patch_size=patch_size)
    pixels = torch.rand(3, 3, 32, 32) * 2 - 1
    side = 32 // (2 * patch_size)
    assert model.config.downsampling_factor == 2 * patch_size
    assert model.config.grid_size == (16 // (2 * patch_size),) * 2  # of its own image size
    found = model(pixels)
    assert found.image_tokens.shape == (3, side, side) and found.pixel_values.shape == pixels.shape
    # by hand: pixel (y, x) of a patch is a channel of its own
    net = model.encoder.net
    rows = pixels.view(3, 3, 32 // patch_size, patch_size, 32 // patch_size, patch_size)
    patches = rows.permute(0, 1, 3, 5, 2, 4).reshape(3, 3 * patch_size**2, 32 // patch_size, -1)
    latents = F.normalize(model.quant_conv(net(patches)), dim=1)
    latents = latents if model.config.normalize_latents else model.quant_conv(net(patches))
    torch.testing.assert_close(model.encode_pixels(pixels), latents)


def test_upsampling_by_short_kernels_is_upsampling_and_convolving():
    conv = torch.nn.Conv2d(5, 7, 3, padding=1)
    hidden = torch.randn(2, 5, 6, 9)
    with torch.no_grad():
        expected = conv(F.interpolate(hidden, scale_factor=2, mode="nearest"))
        assert torch.allclose(UpsampleConvolution(conv)(hidden), expected, atol=1e-5)


def test_unit_weights_see_unit_pixels(make_vqgan, pixel_values):
    symmetric, unit = make_vqgan(), make_vqgan(value_range="unit")
    assert torch.equal(unit.encode(pixel_values * 2 - 1).image_tokens, symmetric.encode(pixel_values).image_tokens)
    tokens = symmetric.encode(pixel_values).image_tokens
    assert torch.allclose(unit.decode(tokens), symmetric.decode(tokens) * 2 - 1)


def test_the_codec_starts_as_pytorch_starts_its_layers(make_vqgan):
    # transformers would draw every layer from normal(0, 0.02)
    weight = make_vqgan().encoder.net.conv_in.weight
    bound = weight[0].numel() ** -0.5
    assert 0.9 * bound < weight.abs().max() <= bound
    codebook = make_vqgan(codebook_size=4096).quantizer.codebook
    assert codebook.norm(dim=1).mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("codebook_size", "millions"), [(8192, 146.24), (4096, 145.98), (2048, 145.85), (1024, 145.79)]
)
def test_full_size_has_256_tokens_and_the_documented_parameters(codebook_size, millions):
    config = VQGANConfig(codebook_size=codebook_size)
    with torch.device("meta"):
        model = VQGANModel(config)
    assert (config.downsampling_factor, config.image_seq_length) == (16, 256)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions


def test_layers_are_those_of_diffusers_vqmodel(make_vqgan, pixel_values):
    from diffusers import VQModel

    model = make_vqgan()
    reference = VQModel(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        vq_embed_dim=8,
        num_vq_embeddings=32,
        norm_num_groups=4,
        mid_block_add_attention=False,
    ).eval()
    state = {
        name.replace("encoder.net", "encoder")
        .replace("decoder.net", "decoder")
        .replace("quantizer.codebook", "quantize.embedding.weight"): value
        for name, value in model.state_dict().items()
    }
    reference.load_state_dict(state)
    with torch.no_grad():
        latents = reference.encode(pixel_values).latents
        _, _, (_, _, tokens) = reference.quantize(latents)
        assert torch.equal(model.encode(pixel_values).image_tokens.flatten(), tokens)
        assert torch.allclose(model(pixel_values).pixel_values, reference(pixel_values).sample, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "found"), [((3, 16, 16), r"\(3, 16, 16\)"), ((1, 1, 16, 16), r"\(1, 1, 16, 16\)"), ((1, 3, 16, 15), "15")]
)
def test_wrong_shapes_are_named(make_vqgan, shape, found):
    with pytest.raises(ValueError, match=f"must be .*multiples of 2, got .*{found}"):
        make_vqgan().encode(torch.zeros(shape))


def test_wrong_tokens_are_named(make_vqgan):
    with pytest.raises(ValueError, match=r"Cannot decode tokens of shape \(1, 50\): an image has 64"):
        make_vqgan().decode(torch.zeros(1, 50, dtype=torch.long))
    with pytest.raises(ValueError, match=r"must lie in \[0, 32\), found 32"):
        make_vqgan().decode(torch.full((1, 8, 8), 32))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 100}, "image_size 100 is not a multiple of the downsampling factor 16"),
        ({"image_size": 80, "patch_size": 2}, "the downsampling factor 32 of 5 levels over patches of 2 pixels"),
        ({"patch_size": 0}, "patch_size is a number of pixels, at least 1, got 0"),
        ({"norm_num_groups": 24}, "norm_num_groups 24 does not divide block_out_channels 128"),
        ({"reconstruction_loss": "l3"}, "reconstruction_loss must be l1 or l2"),
        ({"codebook": "frozen"}, "codebook must be one of learned, simvq"),
        ({"value_range": "bytes"}, "value_range must be one of symmetric, unit"),
        ({"attention_levels": [5]}, "names level 5, but block_out_channels has 5"),
    ],
)
def test_config_refuses_contradictions(values, message):
    with pytest.raises(ValueError, match=message):
        VQGANConfig(**values)
