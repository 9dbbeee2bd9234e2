"""Images in pairs, and a tiny network in the offline tower's place."""

import numpy as np
import pytest
import timm

from visual_sentence.features import perceptual, pooled
from visual_sentence.features.offline_tower import OfflineTower


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Seven images and as many references [7, 3, 33, 40], float64 in [0, 1]."""
    generator = np.random.default_rng(0)
    references = generator.random((7, 3, 33, 40))
    return np.clip(references + generator.normal(scale=0.1, size=references.shape), 0, 1), references


@pytest.fixture
def tower(monkeypatch, tmp_path) -> OfflineTower:
    """Also empties torch.hub's cache, so that nothing else is found first."""
    tower = OfflineTower(timm.create_model("test_efficientnet", num_classes=7), [0.5] * 3, [0.5] * 3, 32)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(perceptual, "load_offline_tower", lambda: tower)
    monkeypatch.setattr(pooled, "load_offline_tower", lambda: tower)
    return tower
