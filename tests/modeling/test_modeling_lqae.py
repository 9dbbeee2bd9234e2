"""LQAE: matching by direction, the masked language model between codes and decoder, what is trained and what is not."""

import pytest
import torch
from tokenizers import Tokenizer, models
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForMaskedLM, BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from visual_sentence.codebook.local import LocalCodebook
from visual_sentence.errors import UserError
from visual_sentence.modeling import (
    LocalVocabulary,
    LQAEConfig,
    LQAEModel,
    NormalizedQuantizer,
    V2LConfig,
    VectorQuantizer,
)
from visual_sentence.training.models import load_v2l

K, D, MASK = 40, 8, 39
CODEC = {"block_out_channels": [8, 16], "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 4}
COMMON = {
    "vocab_size": K,
    "hidden_size": D,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.3,
}
PRIORS = {
    "roberta": {"model_type": "roberta", "max_position_embeddings": 66, "pad_token_id": 1, **COMMON},
    "bert": {"model_type": "bert", "max_position_embeddings": 64, "pad_token_id": 0, **COMMON},
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": K,
        "dim": D,
        "hidden_dim": 16,
        "n_layers": 1,
        "n_heads": 2,
        "max_position_embeddings": 64,
    },
}


@pytest.fixture
def pixel_values() -> torch.Tensor:
    return torch.rand(2, 3, 16, 16) * 2 - 1


@pytest.fixture
def make_lqae():
    """Builds a tiny LQAE: 16 px to 8 x 8 tokens of 40 words."""

    def make(prior: str | None = "roberta", **options) -> LQAEModel:
        torch.manual_seed(0)
        language = {"masked_lm_config": PRIORS[prior], "mask_token_id": MASK} if prior else {}
        sizes = {"image_size": 16, "local_codebook_size": K, "local_embedding_dim": D, **CODEC}
        model = LQAEModel(LQAEConfig(**{**sizes, **language, **options})).eval()
        words = LocalVocabulary([f"word{index}" for index in range(K)], "tiny")
        codebook = torch.randn(K, D) if prior is None else model.masked_lm.get_input_embeddings().weight
        model.load_local_codebook(codebook.detach(), words)
        return model

    return make


# ------------------------------------------------------------------------------------------------------- quantizer


def test_direction_decides_and_the_entry_is_passed_on_as_it_is():
    codebook = torch.tensor([[10.0, 1.0], [0.0, 1.5], [0.0, 0.0]])
    latents = torch.tensor([2.0, 1.0]).view(1, 2, 1, 1).requires_grad_()  # 21 degrees off the first, 63 off the second
    plain, normalized = VectorQuantizer(3, 2, trainable=False), NormalizedQuantizer(3, 2)
    for quantizer in (plain, normalized):
        quantizer.codebook.copy_(codebook)
    # distances to the entries: 8, 2.1, 2.2
    assert plain.assign(latents).item() == 1
    found = normalized(latents)
    assert found.tokens.item() == 0
    assert found.quantized.flatten().tolist() == [10.0, 1.0]
    assert found.commitment_loss.item() == pytest.approx((8**2 + 0**2) / 2)
    found.quantized.sum().backward()
    assert latents.grad.flatten().tolist() == [1.0, 1.0]  # straight through
    assert not isinstance(normalized.codebook, torch.nn.Parameter)


def test_tokens_are_those_of_the_largest_cosine():
    quantizer = NormalizedQuantizer(300, 16)
    quantizer.codebook.copy_(torch.randn(300, 16) * torch.rand(300, 1) * 9)
    quantizer.codebook[7] = 0
    latents = torch.randn(2, 16, 5, 5)
    rows = F.normalize(latents.double().permute(0, 2, 3, 1).reshape(-1, 16), dim=1)
    cosines = rows @ F.normalize(quantizer.codebook.double(), dim=1).T
    cosines[:, 7] = -torch.inf  # no direction
    for training in (True, False):
        tokens = quantizer.train(training).assign(latents)
        assert torch.equal(tokens.flatten(), cosines.argmax(1))
    with pytest.raises(ValueError, match="latents are not finite"):
        quantizer.assign(latents * torch.nan)


# ----------------------------------------------------------------------------------------------------------- prior


@pytest.mark.parametrize("prior", PRIORS)
def test_codes_pass_the_language_model(make_lqae, pixel_values, prior):
    model = make_lqae(prior)
    tokens = model.encode(pixel_values).local_tokens
    with torch.no_grad():
        sentence = model.local_quantizer.codebook[tokens.flatten(1)]  # row by row
        read = model.masked_lm(inputs_embeds=sentence, output_hidden_states=True).hidden_states[-1]
        maps = read.unflatten(1, (8, 8)).permute(0, 3, 1, 2)
        expected = model.decoder(model.post_quant_conv(maps), None)
        assert torch.allclose(model.decode(tokens), expected, atol=1e-5)
        assert torch.allclose(model(pixel_values).pixel_values, expected, atol=1e-5)
        # every token matters everywhere
        others = tokens.clone()
        others[:, 0, 0] = (others[:, 0, 0] + 1) % K
        assert not torch.allclose(model.decode(others)[:, :, -2:, -2:], expected[:, :, -2:, -2:], atol=1e-5)


@pytest.mark.parametrize("ratio", [0.5, 0.25])
def test_training_masks_exactly_its_share_and_adds_the_guesses(make_lqae, pixel_values, ratio, monkeypatch):
    model = make_lqae(mask_ratio=ratio, mlm_loss_weight=0.7).train()
    seen = {}
    forward = type(model.masked_lm).forward

    def watch(self, **inputs):
        seen["inputs"], seen["output"] = inputs["inputs_embeds"], forward(self, **inputs)
        return seen["output"]

    monkeypatch.setattr(type(model.masked_lm), "forward", watch)
    output = model(pixel_values)
    tokens, codebook = output.local_tokens.flatten(1), model.local_quantizer.codebook
    is_mask = (seen["inputs"] == codebook[MASK]).all(-1)
    assert is_mask.sum(1).tolist() == [round(ratio * 64)] * 2
    assert not torch.equal(is_mask[0], is_mask[1])
    assert torch.allclose(seen["inputs"][~is_mask], codebook[tokens[~is_mask]], atol=1e-6)
    log_probs = seen["output"].logits.log_softmax(-1)
    by_hand = -log_probs.gather(-1, tokens[..., None])[..., 0][is_mask].mean()
    parts = output.reconstruction_loss + 0.005 * output.commitment_loss + 0.7 * by_hand
    assert torch.allclose(output.loss, parts, atol=1e-6)
    assert torch.allclose(output.reconstruction_loss, F.mse_loss(output.pixel_values, pixel_values))
    torch.manual_seed(3)
    first = model(pixel_values).loss
    torch.manual_seed(3)
    assert torch.equal(model(pixel_values).loss, first)


def test_without_weight_or_ratio_there_is_no_term(make_lqae, pixel_values):
    for options in ({"mlm_loss_weight": 0.0}, {"mask_ratio": 0.0, "mask_token_id": None}):
        output = make_lqae(**options).train()(pixel_values)
        assert torch.allclose(output.loss, output.reconstruction_loss + 0.005 * output.commitment_loss)


def test_a_step_moves_the_encoder_and_leaves_the_language_model(make_lqae, pixel_values):
    model = make_lqae(mlm_loss_weight=1.0).train()
    assert not model.masked_lm.training
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = {id(parameter) for parameter in model.trainable_parameters()}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in trained}
    assert names and not any(name.startswith(("masked_lm", "local_quantizer")) for name in names)
    model(pixel_values).loss.backward()
    assert all(dict(model.named_parameters())[name].grad is not None for name in names)
    torch.optim.SGD(model.trainable_parameters(), lr=1.0).step()
    for name, tensor in model.state_dict().items():
        frozen = name.startswith(("masked_lm", "local_quantizer"))
        if frozen or name == "encoder.net.conv_in.weight":
            assert torch.equal(tensor, before[name]) == frozen, name


def test_gradients_reach_the_encoder_through_the_language_model(make_lqae, pixel_values):
    model = make_lqae(commitment_loss_weight=0.0, mlm_loss_weight=0.0).train()
    model(pixel_values).loss.backward()
    assert model.quant_conv.weight.grad.abs().max() > 0


def test_without_a_prior_it_is_a_v2l_model_that_matches_by_direction(make_lqae, pixel_values):
    model = make_lqae(None)
    output = model.train()(pixel_values)
    assert torch.allclose(output.loss, output.reconstruction_loss + 0.005 * output.commitment_loss)
    codes = model.local_quantizer.lookup(output.local_tokens)
    assert torch.allclose(output.pixel_values, model.decoder(model.post_quant_conv(codes), None), atol=1e-5)
    assert torch.allclose(output.commitment_loss, F.mse_loss(output.latents, codes))


@pytest.mark.parametrize("prior", [None, "roberta", "bert"])
def test_saved_and_loaded_model_is_the_same(make_lqae, pixel_values, prior, tmp_path):
    model = make_lqae(prior)
    model.save_pretrained(tmp_path)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(loaded, LQAEModel) and not report["missing_keys"] and not report["unexpected_keys"]
    for (name, ours), theirs in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    assert loaded.local_vocabulary.words == model.local_vocabulary.words
    assert torch.equal(loaded(pixel_values).pixel_values, model(pixel_values).pixel_values)
    if prior:
        assert not any(parameter.requires_grad for parameter in loaded.masked_lm.parameters())


def test_masked_language_model_is_taken_over(make_lqae):
    model = make_lqae()
    other = AutoModelForMaskedLM.from_config(model.masked_lm.config)
    for weights in (other, other.state_dict()):
        model.load_masked_lm(weights)
        assert all(map(torch.equal, model.masked_lm.parameters(), other.parameters()))
        assert not any(parameter.requires_grad for parameter in model.masked_lm.parameters())
    wrong = AutoModelForMaskedLM.from_config(BertConfig(**COMMON))
    with pytest.raises(ValueError, match="not of the model that masked_lm_config describes") as refusal:
        model.load_masked_lm(wrong)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match="no masked language model"):
        make_lqae(None).load_masked_lm(other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local_projector": True}, "local_projector is true"),
        ({"local_codebook_trainable": True}, "local_codebook_trainable is true"),
        ({"local_latent_dim": 4}, "without a projector"),
        ({"normalize_latents": True}, "normalize_latents is true"),
        ({"cross_attention": "paper"}, "looks at no global words"),
        ({"mask_ratio": 1.0}, r"mask_ratio is a share of the tokens in \[0, 1\)"),
        ({"mlm_loss_weight": -1.0}, "mlm_loss_weight must not be below 0"),
        ({"mask_token_id": None}, "mask_token_id is missing"),
        ({"mask_token_id": K}, "the codebook has the entries 0 to 39"),
        ({"masked_lm_config": {"hidden_size": 8}}, "names no model_type"),
        ({"local_embedding_dim": 6}, "word embeddings are 8 wide, the codebook is 6"),
        ({"local_codebook_size": 41}, "knows 40 words, the codebook has 41"),
        ({"image_size": 32}, "An image is 256 tokens, but the masked language model reads 64"),
    ],
)
def test_contradictions_are_refused_in_one_line(make_lqae, options, message):
    with pytest.raises(ValueError, match=message) as refusal:
        make_lqae(**options)
    assert "\n" not in str(refusal.value)


def test_larger_images_than_the_language_model_reads_are_refused(make_lqae):
    with pytest.raises(ValueError, match="An image is 256 tokens"):
        make_lqae()(torch.zeros(1, 3, 32, 32))


# --------------------------------------------------------------------------------------------------------- loading


@pytest.fixture
def masked_lm_folder(tmp_path):
    """A saved masked language model of random weights with a tokenizer of 12 words."""
    words = ["[PAD]", "[MASK]", "[UNK]", *(f"w{index}" for index in range(9))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    special = {"pad_token": "[PAD]", "mask_token": "[MASK]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(tmp_path / "lm")
    torch.manual_seed(1)
    BertForMaskedLM(BertConfig(**{**COMMON, "vocab_size": 16}, max_position_embeddings=64)).save_pretrained(
        tmp_path / "lm"
    )
    return tmp_path / "lm"


@pytest.fixture
def lqae_folder(tmp_path):
    LQAEConfig(image_size=16, **CODEC).save_pretrained(tmp_path / "lqae")
    return str(tmp_path / "lqae")


def test_words_of_a_masked_language_model_are_the_codebook(lqae_folder, masked_lm_folder, tmp_path):
    model, processor = load_v2l(lqae_folder, "paper", (), masked_lm=str(masked_lm_folder))
    source = AutoModelForMaskedLM.from_pretrained(masked_lm_folder)
    assert isinstance(model, LQAEModel) and model.config.mask_token_id == 1 and model.config.mlm_loss_weight == 1e-4
    assert (model.config.commitment_loss_weight, model.config.codebook_loss_weight) == (0.005, 0.0)  # not the preset's
    assert torch.equal(model.local_quantizer.codebook, source.get_input_embeddings().weight[:12])
    assert all(map(torch.equal, model.masked_lm.parameters(), source.parameters()))
    assert model.local_vocabulary.words[3:] == [f"w{index}" for index in range(9)]
    model.save_pretrained(tmp_path / "out")
    processor.save_pretrained(tmp_path / "out")
    again, _ = load_v2l(str(tmp_path / "out"))
    assert all(map(torch.equal, again.masked_lm.parameters(), source.parameters()))


def test_an_untrained_head_has_no_say(lqae_folder, masked_lm_folder, caplog):
    BertForMaskedLM.from_pretrained(masked_lm_folder).bert.save_pretrained(masked_lm_folder)  # a bare encoder
    model, _ = load_v2l(lqae_folder, masked_lm=str(masked_lm_folder))
    assert model.config.mlm_loss_weight == 0 and model.config.mask_ratio == 0.5
    assert "has no trained head" in caplog.text


def test_what_cannot_be_loaded_is_refused(lqae_folder, masked_lm_folder, tmp_path):
    V2LConfig(encoder_type=None, image_size=16, **CODEC).save_pretrained(tmp_path / "v2l")
    with pytest.raises(UserError, match="--masked-lm is for LQAE"):
        load_v2l(str(tmp_path / "v2l"), masked_lm=str(masked_lm_folder))
    config = LQAEConfig(
        image_size=16,
        local_codebook_size=K,
        local_embedding_dim=D,
        masked_lm_config=PRIORS["bert"],
        mask_token_id=1,
        **CODEC,
    )
    config.save_pretrained(tmp_path / "with-prior")
    codebook = load_v2l(lqae_folder, masked_lm=str(masked_lm_folder))[0]
    words = LocalCodebook(codebook.local_quantizer.codebook, codebook.local_vocabulary, {})
    with pytest.raises(UserError, match="give --masked-lm, or --set"):
        load_v2l(str(tmp_path / "with-prior"), local_codebook=words)
    with pytest.raises(UserError, match="give one of them"):
        load_v2l(lqae_folder, local_codebook=words, masked_lm=str(masked_lm_folder))
    model, _ = load_v2l(str(tmp_path / "with-prior"), None, ("masked_lm_config=none",), words)
    assert model.masked_lm is None
