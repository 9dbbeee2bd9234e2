"""The Frozen model: prefixes by hand, what is trained, every kind of tower, errors."""

import pytest
import torch
from transformers import AutoModel

from visual_sentence.modeling import FrozenConfig, FrozenModel

from ..conftest import TOWERS


@pytest.fixture
def make_frozen():
    """Builds a tiny model: embeddings of 16 values to 2 prefixes of 6."""

    def make(tower: str = "clip", **options) -> FrozenModel:
        torch.manual_seed(0)
        encoder_type, encoder_config = TOWERS[tower]
        sizes = {"embedding_dim": 16, "hidden_size": 6, "language_model": "tiny"}
        return FrozenModel(FrozenConfig(encoder_type, encoder_config, **{**sizes, **options})).eval()

    return make


@pytest.fixture
def global_pixel_values() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32)


@pytest.mark.parametrize("tower", TOWERS)
def test_prefixes_are_a_linear_map_of_the_tower(make_frozen, global_pixel_values, tower):
    model = make_frozen(tower)
    output = model(global_pixel_values)
    assert output.prefix_embeds.shape == (3, 2, 6)
    assert torch.allclose(output.image_embeds.norm(dim=1), torch.ones(3))
    rows = output.image_embeds @ model.mapping.weight.T + model.mapping.bias
    assert torch.allclose(output.prefix_embeds, torch.stack([rows[:, :6], rows[:, 6:]], dim=1), atol=1e-6)
    assert torch.equal(model(image_embeds=output.image_embeds).prefix_embeds, output.prefix_embeds)
    assert torch.equal(model.embed_images(global_pixel_values), output.image_embeds)


@pytest.mark.parametrize("tower_trainable", [False, True])
def test_what_is_trained(make_frozen, global_pixel_values, tower_trainable):
    model = make_frozen("siglip", tower_trainable=tower_trainable).train()
    assert not any(module.training for module in model.image_tower.modules())
    model(global_pixel_values).prefix_embeds.square().sum().backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {"mapping.weight", "mapping.bias"} <= moved
    assert any(name.startswith("image_tower") for name in moved) == tower_trainable
    named = {id(parameter) for parameter in model.trainable_parameters()}
    assert {name for name, parameter in model.named_parameters() if id(parameter) in named} >= moved
    assert (len(named) == 2) != tower_trainable


@pytest.mark.parametrize("tower", TOWERS)
def test_saved_and_loaded_model_is_the_same(make_frozen, global_pixel_values, tower, tmp_path):
    model = make_frozen(tower)
    model.save_pretrained(tmp_path)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(loaded, FrozenModel) and not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(loaded(global_pixel_values).prefix_embeds, model(global_pixel_values).prefix_embeds)
    assert len(loaded.trainable_parameters()) == 2 and not loaded.image_tower.training


def test_mapping_starts_as_wide_as_it_is_told(make_frozen):
    model = make_frozen(hidden_size=600, initializer_range=0.3)
    assert model.mapping.weight.std().item() == pytest.approx(0.3, rel=0.05)
    assert not model.mapping.bias.any()


def test_labels_can_be_left_out(make_frozen, global_pixel_values):
    model, excluded = make_frozen("conse"), torch.tensor([0, 1, 2])
    model.image_tower.model.label_embeddings.normal_()
    assert not torch.equal(
        model(global_pixel_values, excluded_labels=excluded).prefix_embeds, model(global_pixel_values).prefix_embeds
    )


def test_errors_are_one_line(make_frozen, global_pixel_values):
    model = make_frozen()
    cases = [
        (lambda: model(), "Give either"),
        (lambda: model(global_pixel_values, image_embeds=torch.zeros(3, 16)), "Give either"),
        (lambda: model(global_pixel_values[0]), r"must be \(batch, 3, height, width\)"),
        (lambda: model(image_embeds=torch.zeros(3, 5)), r"must be \(batch, 16\), got \(3, 5\)"),
        (lambda: model(global_pixel_values, excluded_labels=torch.tensor([0])), "no labels that could be left out"),
        (lambda: FrozenConfig(None), "encoder_type must be one of"),
        (lambda: FrozenConfig(num_prefix_tokens=0), "num_prefix_tokens is a number of values"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message) as refusal:
            call()
        assert "\n" not in str(refusal.value)
