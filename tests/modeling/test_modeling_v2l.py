"""The V2L model: towers, look-up, freezing, saving and loading."""

import pytest
import torch

from visual_sentence.modeling import V2LConfig, V2LModel, WordVocabulary
from visual_sentence.modeling.quantization_v2l import GlobalQuantizer

TOWERS = ("clip", "siglip", "open_clip", "conse")


def tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and buffers, non-persistent ones too."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.parametrize("tower", TOWERS)
def test_saved_and_loaded_model_is_the_same_in_every_tensor(tower, make_v2l, tmp_path):
    model, views = make_v2l(tower), torch.randn(2, 3, 32, 32)
    model.save_pretrained(tmp_path)
    loaded = V2LModel.from_pretrained(tmp_path)
    before, after = tensors(model), tensors(loaded)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name].device.type == "cpu" and torch.equal(after[name], value), name
    ours, theirs = model.encode(global_pixel_values=views), loaded.encode(global_pixel_values=views)
    assert torch.equal(ours.global_tokens, theirs.global_tokens)
    assert torch.equal(ours.image_embeds, theirs.image_embeds)
    assert ours.global_words == theirs.global_words and ours.global_token_ids == theirs.global_token_ids


@pytest.mark.parametrize("tower", TOWERS)
def test_frozen_after_loading_and_in_training_mode(tower, make_v2l, tmp_path):
    make_v2l(tower).save_pretrained(tmp_path)
    loaded = V2LModel.from_pretrained(tmp_path)
    assert not any(parameter.requires_grad for parameter in loaded.image_tower.parameters())
    loaded.train()
    assert not any(module.training for module in loaded.image_tower.modules())


@pytest.mark.parametrize("tower", TOWERS)
def test_bfloat16_keeps_the_codebook_in_float32(tower, make_v2l, tmp_path):
    make_v2l(tower).save_pretrained(tmp_path)
    loaded = V2LModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert next(loaded.image_tower.parameters()).dtype == torch.bfloat16
    assert loaded.global_quantizer.codebook.dtype == torch.float32
    assert loaded.global_quantizer.groups.dtype == torch.int64
    output = loaded.encode(global_pixel_values=torch.randn(2, 3, 32, 32))
    assert output.global_tokens.shape == (2, 3) and output.image_embeds.dtype == torch.float32


@pytest.mark.parametrize("tower", ("clip", "siglip"))
def test_tower_holds_no_text_half(tower, make_v2l):
    names = [name for name in make_v2l(tower).state_dict() if ".text_" in name or "logit" in name]
    assert names == []


def test_tokens_are_the_nearest_entries_of_distinct_groups(make_v2l, vocabulary):
    model, views = make_v2l(), torch.randn(4, 3, 32, 32)
    output = model.encode(global_pixel_values=views, num_global_tokens=5)
    embeds = model.image_tower(views)
    for row in range(4):
        distances = [torch.dist(embeds[row], entry).item() for entry in model.global_quantizer.codebook]
        expected, seen = [], set()
        for index in sorted(range(12), key=distances.__getitem__):
            if vocabulary.groups[index] not in seen:
                seen.add(vocabulary.groups[index])
                expected.append(index)
        assert output.global_tokens[row].tolist() == expected[:5]
        torch.testing.assert_close(output.global_distances[row], torch.tensor([distances[i] for i in expected[:5]]))
        assert output.global_words[row] == [vocabulary.words[i] for i in expected[:5]]
        assert output.global_token_ids[row] == [vocabulary.token_ids[i] for i in expected[:5]]


def test_an_image_alone_gets_the_same_tokens_as_in_a_batch(make_v2l):
    model, views = make_v2l("conse"), torch.randn(3, 3, 32, 32)
    together = model.encode(global_pixel_values=views).global_tokens
    assert torch.equal(
        together, torch.cat([model.encode(global_pixel_values=view[None]).global_tokens for view in views])
    )


def test_quantizer_by_hand():
    quantizer = GlobalQuantizer(4, 2)
    codebook = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.6, 0.8]])
    quantizer.load_state_dict(
        {"codebook": codebook, "image_center": torch.zeros(2), "groups": torch.tensor([0, 1, 2, 1])}
    )
    tokens, distances = quantizer(torch.tensor([[0.0, 2.0]]), num_tokens=2)
    # nearest is entry 1 at distance 0; entry 3 shares its group, so entry 0 at distance sqrt(2) comes next
    assert tokens.tolist() == [[1, 0]]
    torch.testing.assert_close(distances, torch.tensor([[0.0, 2**0.5]]))


def test_centring_subtracts_before_the_look_up():
    quantizer = GlobalQuantizer(2, 2)
    quantizer.load_state_dict(
        {
            "codebook": torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
            "image_center": torch.tensor([0.9, 0.0]),
            "groups": torch.arange(2),
        }
    )
    embeds = torch.tensor([[0.9, 0.3]])  # nearer to entry 0, until the mean is gone
    assert quantizer(embeds, 1)[0].tolist() == [[1]]


def test_more_words_than_groups_are_refused(make_v2l):
    with pytest.raises(ValueError, match="11 global tokens were asked for, but the codebook offers 1 to 10"):
        make_v2l().encode(global_pixel_values=torch.randn(1, 3, 32, 32), num_global_tokens=11)


def test_excluded_labels_act_as_if_never_learned(make_v2l):
    model = make_v2l("conse")
    conse, views = model.image_tower.model, torch.randn(3, 3, 32, 32)
    logits = conse.classifier(pixel_values=views).logits
    kept = [0, 2, 3, 5]
    probabilities, best = logits[:, kept].softmax(-1).topk(3)
    weights = probabilities / probabilities.sum(-1, keepdim=True)
    expected = (weights[..., None] * conse.label_embeddings[torch.tensor(kept)][best]).sum(1)
    actual = model.image_tower(views, torch.tensor([1, 4]))
    torch.testing.assert_close(actual, torch.nn.functional.normalize(expected, dim=-1))


def test_towers_without_labels_refuse_to_leave_any_out(make_v2l):
    with pytest.raises(ValueError, match="no labels that could be left out"):
        make_v2l("clip").encode(global_pixel_values=torch.randn(1, 3, 32, 32), excluded_labels=torch.tensor([0]))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32)])
def test_wrong_shapes_are_named(shape, make_v2l):
    with pytest.raises(ValueError, match="must be \\(batch, 3, height, width\\)"):
        make_v2l().encode(global_pixel_values=torch.zeros(shape))


def test_model_without_a_global_half_says_so():
    model = V2LModel(V2LConfig(encoder_type=None))
    with pytest.raises(ValueError, match="no image tower"):
        model.encode(global_pixel_values=torch.zeros(1, 3, 32, 32))


def test_vocabulary_of_another_size_is_refused(make_v2l, vocabulary):
    short = WordVocabulary(vocabulary.words[:5], vocabulary.token_ids[:5], vocabulary.kinds[:5], vocabulary.groups[:5])
    with pytest.raises(ValueError, match="5 words, the codebook 12 entries"):
        make_v2l().set_vocabulary(short)


def test_vocabulary_survives_saving_and_notices_changes(vocabulary, tmp_path):
    path = vocabulary.save(tmp_path)
    loaded = WordVocabulary.load(path)
    assert (loaded.words, loaded.token_ids, loaded.kinds, loaded.groups) == (
        vocabulary.words,
        vocabulary.token_ids,
        vocabulary.kinds,
        vocabulary.groups,
    )
    assert loaded.provenance["language_model"] == "tiny"
    path.write_text(path.read_text().replace('"boat"', '"ship"'))
    with pytest.raises(ValueError, match="do not match their digest"):
        WordVocabulary.load(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder_type": "clip"}, "encoder_type must be one of transformers, open_clip, conse"),
        ({"num_words": 4, "num_global_tokens": 5}, "num_global_tokens is 5, but the codebook has 4"),
        ({"image_size": 100}, "image_size 100 is not a multiple of the downsampling factor 8"),
    ],
)
def test_config_refuses_contradictions(values, message):
    with pytest.raises(ValueError, match=message):
        V2LConfig(**values)


def test_config_derives_the_papers_sizes():
    config = V2LConfig()
    assert (config.grid_size, config.image_seq_length) == ((16, 16), 256)
