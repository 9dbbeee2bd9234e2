"""Cards: a folder's own with lines that load it from the Hub, or one made of what is known."""

import json
import re

import pytest
from huggingface_hub import ModelCard

from visual_sentence.publishing import assemble_repository
from visual_sentence.publishing.card import PLACE_OF_COMMIT

REPORT = {
    "model_type": "vqgan",
    "stopped_by": "time",
    "steps": 1200,
    "images_seen": 9600,
    "seconds": 61.4,
    "processes": 1,
    "device": "cpu",
    "trainable_parameters": 4321,
    "terms": {"loss": 0.1234567},
    "perceptual": "offline-tower",
    "data": [{"name": "/home/me/photos[:100]", "count": 100}, {"name": "zh-plus/tiny-imagenet", "count": 20000}],
    "config": {"preset": "small", "learning_rate": 0.0003, "batch_size": 8},
    "versions": {"python": "3.11", "torch": "2.9"},
}
RECONSTRUCTION = {
    "model": "/home/me/run/model",
    "data": "/home/me/left-out",
    "n": 200,
    "psnr": 23.456,
    "ssim": 0.6543,
    "identical": None,
    "codebook_usage": 0.25,
    "seconds_per_image": 0.3,
    "device": "cpu",
}
COMPLETION = {
    "task": "segmentation",
    "setting": {"data": "camvid"},
    "results": [{"pairs": 1, "dice": 0.5, "psnr": None}, {"pairs": 3, "dice": 0.625, "psnr": None}],
}


@pytest.fixture
def card_of(vqgan_folder, tmp_path):
    """Assembles the VQGAN; gives its card."""
    numbers = iter(range(99))

    def make(repo_id: str | None = "me/model", licence: str | None = None) -> str:
        place = tmp_path / f"card{next(numbers)}"
        place.mkdir()
        assemble_repository(str(vqgan_folder), place, repo_id, licence)
        return (place / "README.md").read_text()

    return make


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_a_card_is_made(card_of, vqgan_folder):
    text = card_of()
    card = ModelCard(text)
    data = card.data.to_dict()
    assert data["library_name"] == "transformers" and data["pipeline_tag"] == "image-to-image"
    assert data["tags"][0] == "visual-sentence" and "license" not in data and card.data.eval_results is None
    assert "# tiny-vqgan: a VQGAN" in text and "A picture of 16 pixels becomes 64 tokens of 32 codes." in text
    assert text.count("Nothing is recorded.") == 2 and "https://arxiv.org/abs/2012.09841" in text
    (block,) = blocks(text)
    compile(block, "card", "exec")
    assert block.count('"me/model", revision=REVISION, trust_remote_code=True') == 3
    assert f'\nREVISION = "{PLACE_OF_COMMIT}"  # put the commit here' in block and '"main"' not in block
    assert "To be installed: datasets, diffusers, " in text


def test_what_is_known_is_told(card_of, vqgan_folder, tmp_path):
    run = tmp_path / "my-run"
    run.mkdir()
    vqgan_folder.rename(run / "model")
    (run / "training.json").write_text(json.dumps(REPORT))
    (run / "evaluation.json").write_text(json.dumps(RECONSTRUCTION))
    (run / "model" / "evaluation-camvid.json").write_text(json.dumps(COMPLETION))
    (tmp_path / "card").mkdir()
    repository = assemble_repository(str(run / "model"), tmp_path / "card", licence="mit")
    text = (tmp_path / "card" / "README.md").read_text()
    assert repository.name == "my-run" and "OWNER/my-run" in text and "/home/me" not in text
    for row in ("steps | 1,200", "images seen | 9,600", "seconds | 61", "trained numbers | 4,321", "preset | small"):
        assert f"| {row} |" in text, row
    for row in ("loss at the end | 0.1235", "data: photos[:100] | 100", "data: zh-plus/tiny-imagenet | 20,000"):
        assert f"| {row} |" in text, row
    assert "The run was stopped before its last step." in text
    for row in ("psnr | 23.46", "ssim | 0.654", "codebook usage | 0.25", "n | 200", "dice | 0.625"):
        assert f"| {row} |" in text, row
    card = ModelCard(text)
    assert card.data.license == "mit" and card.data.model_name == "my-run"
    found = {(one.dataset_name, one.metric_type): one.metric_value for one in card.data.eval_results}
    assert found == {
        ("left-out", "psnr"): 23.46,
        ("left-out", "ssim"): 0.654,
        ("camvid, behind 1 pairs", "dice"): 0.5,
        ("camvid, behind 3 pairs", "dice"): 0.625,
    }


OWN = """---
license: other
license_name: mine
tags: [a, b]
---

# Mine

A picture ![there](there.png) and one ![missing](missing.png), [elsewhere](https://example.org), [here](#mine).

```python
## no heading
import visual_sentence
```

## Limits

Many.
"""


def test_the_folders_own_card_is_kept(card_of, vqgan_folder):
    (vqgan_folder / "README.md").write_text(OWN)
    (vqgan_folder / "there.png").write_bytes(b"picture")
    text = card_of()
    before, _, behind = OWN.partition("## Limits")
    assert text.startswith(before) and text.endswith(f"\n## Limits{behind}")
    first, second = blocks(text)
    assert first == "## no heading\nimport visual_sentence\n" and "revision=REVISION" in second
    assert "pip install visual-sentence==" in text
    (vqgan_folder / "README.md").write_text(text)
    assert card_of() == text
    assert card_of("you/other") == text.replace("me/model", "you/other")


def test_what_it_points_at_comes_along(vqgan_folder, tmp_path):
    (vqgan_folder / "README.md").write_text(OWN)
    (vqgan_folder / "there.png").write_bytes(b"picture")
    (tmp_path / "new").mkdir()
    repository = assemble_repository(str(vqgan_folder), tmp_path / "new")
    assert (tmp_path / "new" / "there.png").read_bytes() == b"picture"
    assert repository.notes == ("Its card points at missing.png, which is not there.",)


def test_another_licence(card_of, vqgan_folder):
    (vqgan_folder / "README.md").write_text(OWN)
    text = card_of(licence="apache-2.0")
    assert text.startswith("---\nlicense: apache-2.0\ntags: [a, b]\n---\n\n# Mine\n")


@pytest.mark.parametrize("text", ["# Mine\r\n\r\nText.\r\n", "", "---\n---\n# Mine\n", "# Mine\n\n---\n\nText."])
def test_cards_without_metadata(card_of, vqgan_folder, text):
    (vqgan_folder / "README.md").write_text(text, newline="")
    found = card_of(licence="mit")
    card = ModelCard(found)
    assert card.data.license == "mit" and found.count("revision=REVISION") == 3
    assert all(line in found for line in text.split() if line != "---")
    if not text.startswith("---"):
        assert card.data.library_name == "transformers"
