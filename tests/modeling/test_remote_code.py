"""A saved folder loads in an interpreter that does not have the package, and gives the same words."""

import json
import subprocess
import sys

import pytest
import torch
from PIL import Image

from visual_sentence.modeling import ConseConfig, ConseModel, V2LImageProcessor, V2LProcessor, VQGANImageProcessor

from ..conftest import TOWERS

SCRIPT = """
import importlib.abc, json, sys

class NoPackage(importlib.abc.MetaPathFinder):  # as on a machine where it is not installed
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "visual_sentence":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoPackage())
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor

folder = sys.argv[1]
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
result = {"type": config.model_type}
if config.model_type == "v2l":
    processors = [c.from_pretrained(folder, trust_remote_code=True) for c in (AutoImageProcessor, AutoProcessor)]
    views = [p(Image.new("RGB", (50, 40), "teal"), return_tensors="pt")["global_pixel_values"] for p in processors]
    assert torch.equal(*views)
    if model.local_quantizer is not None:
        local = processors[0](Image.new("RGB", (50, 40), "teal"), return_tensors="pt")["pixel_values"]
        output = model.encode(local, views[0])
        result["tokens"] = output.local_tokens.tolist()
        result["image"] = model.decode(output.local_tokens, output.global_tokens).tolist()
        result["local words"] = model.local_vocabulary.words[:3]
    output = model.encode(global_pixel_values=views[0])
    result["words"] = output.global_words
    assert processors[1].batch_decode(output.global_tokens) == result["words"]
    result["trainable"] = sum(p.requires_grad for p in model.parameters())
elif config.model_type == "vqgan":
    processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
    views = processor(Image.new("RGB", (50, 40), "teal"), return_tensors="pt")
    tokens = model.encode(**views).image_tokens
    result["tokens"], result["image"] = tokens.tolist(), model.decode(tokens).tolist()
    result["trainable"] = sum(p.requires_grad for p in model.parameters())
else:
    result["embedding"] = model(pixel_values=torch.ones(1, 3, 32, 32)).pooler_output[0].tolist()
print(json.dumps(result))
"""


def run_without_package(folder, tmp_path) -> dict:
    """What the script prints in a fresh interpreter, away from the repository."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**__import__("os").environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.strip().splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("tower", ["clip", "open_clip", "conse"])
def test_v2l_folder_loads_without_the_package(tower, make_v2l, tmp_path):
    folder = tmp_path / "model"
    model, processor = make_v2l(tower), V2LImageProcessor(global_size=32)
    model.save_pretrained(folder)
    V2LProcessor(processor).save_pretrained(folder)
    views = processor(Image.new("RGB", (50, 40), "teal"), return_tensors="pt")
    expected = model.encode(global_pixel_values=views["global_pixel_values"]).global_words
    result = run_without_package(folder, tmp_path)
    assert result == {"type": "v2l", "words": expected, "trainable": 0}


@pytest.mark.slow
def test_v2l_folder_with_both_halves_loads_without_the_package(make_local_v2l, tmp_path):
    folder = tmp_path / "model"
    model = make_local_v2l(TOWERS["clip"], cross_attention="published-code")
    processor = V2LImageProcessor(local_size=16, global_size=32)
    model.save_pretrained(folder)
    V2LProcessor(processor).save_pretrained(folder)
    views = processor(Image.new("RGB", (50, 40), "teal"), return_tensors="pt")
    output = model.encode(**views)
    result = run_without_package(folder, tmp_path)
    assert result["tokens"] == output.local_tokens.tolist()
    assert result["words"] == output.global_words and result["local words"] == ["word0", "word1", "word2"]
    torch.testing.assert_close(
        torch.tensor(result["image"]), model.decode(output.local_tokens, output.global_tokens), atol=1e-5, rtol=0
    )
    assert result["trainable"] == len(model.trainable_parameters())


@pytest.mark.slow
def test_vqgan_folder_loads_without_the_package(make_vqgan, tmp_path):
    folder = tmp_path / "model"
    model, processor = make_vqgan(codebook="simvq"), VQGANImageProcessor(local_size=16)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    tokens = model.encode(**processor(Image.new("RGB", (50, 40), "teal"), return_tensors="pt")).image_tokens
    result = run_without_package(folder, tmp_path)
    assert result["type"] == "vqgan" and result["tokens"] == tokens.tolist()
    torch.testing.assert_close(torch.tensor(result["image"]), model.decode(tokens), atol=1e-5, rtol=0)
    assert result["trainable"] == len(model.trainable_parameters())


@pytest.mark.slow
def test_conse_folder_loads_without_the_package(make_v2l, tmp_path):
    conse = make_v2l("conse").image_tower.model
    model = ConseModel(ConseConfig.from_dict(conse.config.to_dict())).eval()
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    expected = model(pixel_values=torch.ones(1, 3, 32, 32)).pooler_output[0]
    result = run_without_package(folder, tmp_path)
    torch.testing.assert_close(torch.tensor(result["embedding"]), expected)
