"""A saved SimLVM loads in an interpreter that does not have the package, and answers with the same tokens."""

import json
import os
import subprocess
import sys

import pytest
import torch
from PIL import Image

SCRIPT = """
import importlib.abc, json, sys

class NoPackage(importlib.abc.MetaPathFinder):  # as on a machine where it is not installed
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "visual_sentence":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoPackage())
from PIL import Image
from transformers import AutoModel, AutoProcessor

folder = sys.argv[1]
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
pictures = [Image.radial_gradient("L").rotate(30 * place).convert("RGB") for place in range(3)]
found = model.complete(**processor(pairs=[tuple(pictures[:2])], query=pictures[2]))
image = model.draw(found.image_tokens[:, 0])
again = AutoModel.from_pretrained(folder, trust_remote_code=True)
again.take_vqgan(model.vqgan)
print(json.dumps({
    "text": model.config.text_config.model_type,
    "embedding": type(model.get_input_embeddings()).__name__,
    "tokens": found.image_tokens.tolist(),
    "image": image.tolist(),
    "size": processor.postprocess(image, sizes=[(9, 7)])[0].size,
    "trainable": len(model.trainable_parameters()),
}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["llama-codebook", "visual_gru-table"])
def test_simlvm_folder_loads_without_the_package(variant, make_variant, make_simlvm_processor, tmp_path):
    model, folder = make_variant(variant), tmp_path / "model"
    processor = make_simlvm_processor(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    said = json.loads(result.stdout.strip().splitlines()[-1])
    pictures = [Image.radial_gradient("L").rotate(30 * place).convert("RGB") for place in range(3)]
    found = model.complete(**processor(pairs=[tuple(pictures[:2])], query=pictures[2]))
    assert said.pop("tokens") == found.image_tokens.tolist()
    assert found.image_tokens.unique().numel() > 3
    drawn = torch.tensor(said.pop("image"))
    torch.testing.assert_close(drawn, model.draw(found.image_tokens[:, 0]), atol=1e-5, rtol=0)
    embedding = "CodebookEmbedding" if "codebook" in variant else "Embedding"
    trainable = len(model.trainable_parameters())
    assert said == {
        "text": variant.partition("-")[0],
        "embedding": embedding,
        "size": [9, 7],
        "trainable": trainable,
    }
