"""Upload to a stand-in for the Hub, load back by repository id in an interpreter without the package."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from visual_sentence.modeling import V2LImageProcessor, V2LProcessor

FAKE_HUB = Path(__file__).resolve().parents[3] / "shared" / "fake_hub.py"

LOAD = """
import sys

from PIL import Image
from transformers import AutoModel, AutoProcessor

assert "visual_sentence" not in sys.modules
model = AutoModel.from_pretrained("me/tiny-v2l", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("me/tiny-v2l", trust_remote_code=True)
views = processor(Image.new("RGB", (50, 40), "teal"), return_tensors="pt", do_local_view=False)
print(model.encode(**views).global_words)
"""


@pytest.fixture
def endpoint(tmp_path):
    """Address of a running stand-in."""
    if not FAKE_HUB.is_file():
        pytest.skip("needs the stand-in for a Hub server, which is not part of this repository")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, str(FAKE_HUB), str(port)])
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait()


@pytest.mark.slow
def test_model_processor_and_words_come_back_from_the_hub(endpoint, make_v2l, tmp_path):
    folder = tmp_path / "model"
    model, processor = make_v2l("clip"), V2LProcessor(V2LImageProcessor(global_size=32))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")},
        "HF_ENDPOINT": endpoint,
        "HF_TOKEN": "hf_fake",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "home"),
        "FOLDER": str(folder),
    }
    upload = (
        "import os; from huggingface_hub import create_repo, upload_folder; create_repo('me/tiny-v2l'); "
        "upload_folder(repo_id='me/tiny-v2l', folder_path=os.environ['FOLDER'])"
    )
    for script in (upload, LOAD):
        result = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
        )
        assert result.returncode == 0, result.stderr[-3000:]
    views = processor(Image.new("RGB", (50, 40), "teal"), return_tensors="pt", do_local_view=False)
    assert result.stdout.strip().splitlines()[-1] == str(model.encode(**views).global_words)
