"""The local half of the V2L model: tokens, images, losses, each kind of cross-attention, each half alone."""

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel

from visual_sentence.modeling import LocalVocabulary, V2LConfig, V2LModel

from ..conftest import TOWERS

CROSS_ATTENTIONS = ["paper", "paper-appendix", "published-code"]


@pytest.fixture
def pixel_values() -> torch.Tensor:
    return torch.rand(2, 3, 16, 16) * 2 - 1


@pytest.fixture
def global_pixel_values() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32)


def test_local_half_alone(make_local_v2l, pixel_values, global_pixel_values):
    model = make_local_v2l()
    output = model.encode(pixel_values)
    assert output.local_tokens.shape == (2, 8, 8) and output.local_tokens.dtype == torch.long
    assert output.global_tokens is None
    assert model.decode(output.local_tokens).shape == pixel_values.shape
    assert torch.equal(model.encode(pixel_values, global_pixel_values).local_tokens, output.local_tokens)
    with pytest.raises(ValueError, match="has no image tower, so it has no global tokens"):
        model.encode(global_pixel_values=global_pixel_values)


def test_tokens_are_the_nearest_projected_entries(make_local_v2l, pixel_values):
    model = make_local_v2l()
    output = model.encode(pixel_values)
    assert torch.allclose(output.latents.norm(dim=1), torch.ones(2, 8, 8))  # latents have length 1
    codes = model.local_quantizer.projector(model.local_quantizer.codebook)  # the entries have not
    distances = torch.cdist(output.latents.permute(0, 2, 3, 1).reshape(-1, 6), codes)
    assert torch.equal(distances.argmin(1), output.local_tokens.flatten())


@pytest.mark.parametrize(
    "options",
    [{}, {"local_projector": False}, {"local_latent_dim": 10}, {"local_codebook_trainable": True}],
    ids=["default", "plain", "wider", "trained"],
)
def test_what_is_trained(make_local_v2l, pixel_values, options):
    model = make_local_v2l(TOWERS["clip"], cross_attention="paper", **options).train()
    assert not model.image_tower.training
    output = model(pixel_values, global_tokens=torch.tensor([[0, 2, 4], [1, 3, 5]]))
    output.loss.backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    tower = {name for name, _ in model.named_parameters() if name.startswith("image_tower")}
    assert moved == {name for name, _ in model.named_parameters()} - tower
    assert {id(p) for p in model.trainable_parameters()} == {
        id(p) for name, p in model.named_parameters() if name in moved
    }
    assert ("local_quantizer.codebook" in moved) == options.get("local_codebook_trainable", False)
    assert any(name.startswith("local_quantizer.projector") for name in moved) == options.get("local_projector", True)


def test_losses_are_what_their_names_say(make_local_v2l, pixel_values):
    model = make_local_v2l(commitment_loss_weight=0.3, codebook_loss_weight=0.7).train()
    output = model(pixel_values)
    assert torch.allclose(output.reconstruction_loss, F.mse_loss(output.pixel_values, pixel_values))
    expected = output.reconstruction_loss + 0.7 * output.codebook_loss + 0.3 * output.commitment_loss
    assert torch.allclose(output.loss, expected)
    assert output.codebook_usage == len(output.local_tokens.unique()) / 40


@pytest.mark.parametrize("cross_attention", CROSS_ATTENTIONS)
def test_global_words_reach_the_image(make_local_v2l, pixel_values, global_pixel_values, cross_attention, monkeypatch):
    model = make_local_v2l(TOWERS["clip"], cross_attention=cross_attention)
    output = model.encode(pixel_values, global_pixel_values)
    assert output.global_tokens.shape == (2, 3) and len(output.global_words[0]) == 3
    images = model.decode(output.local_tokens, output.global_tokens)
    assert torch.allclose(model(pixel_values, global_pixel_values).pixel_values, images, atol=1e-5)
    assert torch.allclose(model(pixel_values, global_tokens=output.global_tokens).pixel_values, images, atol=1e-5)
    others = (output.global_tokens + 1) % 12
    assert not torch.allclose(model.decode(output.local_tokens, others), images, atol=1e-5)
    # images of their own parts keep their own words
    monkeypatch.setattr("visual_sentence.modeling.convolutional_codec.CPU_PIXELS", 16 * 16)
    assert torch.allclose(model.decode(output.local_tokens, output.global_tokens), images, atol=1e-5)
    # attention has no order, and takes any number of words
    assert torch.allclose(model.decode(output.local_tokens, output.global_tokens.flip(1)), images, atol=1e-5)
    assert model.decode(output.local_tokens, output.global_tokens[:, :1]).shape == images.shape


def test_words_of_fewer_images_are_refused(make_local_v2l, monkeypatch):
    model, tokens = make_local_v2l(TOWERS["clip"], cross_attention="paper"), torch.zeros(3, 8, 8, dtype=torch.long)
    for pixels in (1, 10_000):  # image by image, and all at once
        monkeypatch.setattr("visual_sentence.modeling.convolutional_codec.CPU_PIXELS", pixels * 16 * 16)
        with pytest.raises(ValueError, match="global words of 2 images, but local tokens of 3"):
            model.decode(tokens, torch.zeros(2, 3, dtype=torch.long))


def test_cross_attention_stands_where_it_is_said_to(make_local_v2l, pixel_values):
    """Each kind against the layers written out one by one."""
    tokens, words = torch.randint(0, 40, (2, 8, 8)), torch.tensor([[0, 2, 4], [1, 3, 5]])
    for kind in CROSS_ATTENTIONS:
        model = make_local_v2l(TOWERS["clip"], cross_attention=kind, cross_attention_heads=4)
        net, cross = model.decoder.net, model.decoder.cross_attention
        context = model.global_quantizer.codebook[words]

        def look(hidden, cross=cross, context=context):
            attention = cross.attention
            rows = hidden if cross.norm is None else cross.norm(hidden)
            rows = rows.flatten(2).transpose(1, 2)
            q, k, v = attention.to_q(rows), attention.to_k(context), attention.to_v(context)
            q, k, v = (x.unflatten(2, (4, -1)).transpose(1, 2) for x in (q, k, v))
            found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            return attention.to_out[0](found).transpose(1, 2).reshape(hidden.shape)

        with torch.no_grad():
            hidden = net.conv_in(model.post_quant_conv(model.local_quantizer.lookup(tokens)))
            hidden = net.mid_block.resnets[0](hidden, None)
            if kind == "paper-appendix":
                hidden = hidden + look(hidden)
            hidden = net.mid_block.attentions[0](hidden)
            if kind == "paper":
                hidden = hidden + look(hidden)
            if kind == "published-code":
                hidden = look(hidden)
            hidden = net.mid_block.resnets[1](hidden, None)
            for block in net.up_blocks:
                hidden = block(hidden)
            expected = net.conv_out(F.silu(net.conv_norm_out(hidden)))
        assert torch.allclose(model.decode(tokens, words), expected, atol=1e-5), kind
        assert cross.attention.to_q.weight.shape[0] == (64 if kind == "published-code" else 16)


def test_decoding_without_global_words(make_local_v2l):
    tokens = torch.zeros(1, 8, 8, dtype=torch.long)
    make_local_v2l(TOWERS["clip"], cross_attention="paper").decode(tokens)  # a residual is left out
    with pytest.raises(ValueError, match="needs the image's global tokens"):
        make_local_v2l(TOWERS["clip"], cross_attention="published-code").decode(tokens)


@pytest.mark.parametrize("tower", [None, "clip", "conse", "open_clip"])
def test_saved_and_loaded_model_is_the_same_in_every_tensor(make_local_v2l, pixel_values, tower, tmp_path):
    options = {"cross_attention": "paper"} if tower else {}
    model = make_local_v2l(TOWERS[tower] if tower else None, **options)
    model.save_pretrained(tmp_path)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for (name, ours), theirs in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert theirs.device.type == "cpu" and torch.equal(ours, theirs), name
    buffers = dict(loaded.named_buffers())
    assert all(torch.equal(buffers[name], buffer) for name, buffer in model.named_buffers())
    assert loaded.local_vocabulary == model.local_vocabulary
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in model.parameters()]
    tokens = model.encode(pixel_values).local_tokens
    assert torch.equal(loaded.encode(pixel_values).local_tokens, tokens)
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))


def test_bfloat16_keeps_the_local_codebook_in_float32(make_local_v2l, pixel_values, tmp_path):
    make_local_v2l().save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.local_quantizer.codebook.dtype == model.local_quantizer.projector.weight.dtype == torch.float32
    assert model.encoder.net.conv_in.weight.dtype == torch.bfloat16
    assert torch.isfinite(model(pixel_values).loss)


def test_full_size_is_the_papers():
    config = V2LConfig(encoder_type=None, local_codebook_size=32_000)
    with torch.device("meta"):
        model = V2LModel(config)
    assert (config.grid_size, config.downsampling_factor) == ((16, 16), 8)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == 65.70
    assert model.local_quantizer.codebook.shape == (32_000, 768)
    channels = [block.resnets[0].conv2.out_channels for block in model.encoder.net.down_blocks]
    assert channels == [128, 256, 256, 512]


def test_folders_of_the_first_version_still_load(v2l_folder):
    # their configs name downsampling_factor, which follows from the levels now
    config = v2l_folder / "config.json"
    config.write_text(config.read_text().replace('"image_size": 128,', '"image_size": 128, "downsampling_factor": 8,'))
    model = AutoModel.from_pretrained(v2l_folder)
    assert model.config.downsampling_factor == 8 and model.local_quantizer is None


def test_wrong_codebooks_and_views_are_named(make_local_v2l, make_v2l, pixel_values):
    model = make_local_v2l()
    with pytest.raises(ValueError, match=r"codebook is \(40, 6\), the embeddings are \(41, 6\)"):
        model.load_local_codebook(torch.zeros(41, 6))
    with pytest.raises(ValueError, match="has 2 words, the local codebook 40"):
        model.set_local_vocabulary(LocalVocabulary(["a", "b"]))
    with pytest.raises(ValueError, match="No image was given"):
        model.encode()
    for call in (lambda m: m.encode(pixel_values), lambda m: m.decode(torch.zeros(1, 8, 8).long())):
        with pytest.raises(ValueError, match="has no local half"):
            call(make_v2l())
    with pytest.raises(ValueError, match="has no local half"):
        make_v2l().load_local_codebook(torch.zeros(4, 4))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"local_codebook_size": 9, "cross_attention": "nearby"}, "cross_attention must be one of paper"),
        ({"local_codebook_size": 9, "cross_attention": "paper", "cross_attention_heads": 7}, "7 does not divide"),
    ],
)
def test_contradictions_are_refused(values, message):
    config = {"encoder_type": TOWERS["clip"][0], "encoder_config": TOWERS["clip"][1], "image_size": 16}
    with pytest.raises(ValueError, match=message):
        V2LModel(V2LConfig(**{**config, **values}))
