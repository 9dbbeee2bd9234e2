"""`visual-sentence push` as a user starts it: a process of its own that finds the Hub by HF_ENDPOINT."""

import os
import signal
import subprocess
import sys
import time

import pytest

from .hub_server import TOKEN, Fault

COMMAND = [sys.executable, "-c", "from visual_sentence_cli import main; main()", "push"]
# Everything that the libraries and the command can be made to tell.
LOUD = {"HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug", "VISUAL_SENTENCE_TRACEBACK": "1"}


@pytest.fixture
def start(hub, vqgan_folder, tmp_path):
    """Begins an upload of the VQGAN to me/model."""

    def begin(*arguments: str, **environment: str) -> subprocess.Popen:
        online = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0", "HF_TOKEN": TOKEN}
        online |= {"HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}
        command = [*COMMAND, str(vqgan_folder), "--repo-id", "me/model", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        try:
            return subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **online, **environment}, **pipes)
        finally:
            signal.signal(signal.SIGINT, before)

    return begin


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    """Status and outputs of a process, in which the token is not."""
    out, err = process.communicate(timeout=300)
    assert TOKEN not in out + err
    return process.returncode, out, err


@pytest.mark.slow
def test_interrupted_then_begun_again(start, hub, vqgan_folder):
    hub.faults.append(Fault("POST .*/commit/", times=1, delay=5, status=503))
    process = start("--no-check", **LOUD)
    deadline = time.monotonic() + 300
    while not hub.count("POST .*/commit/"):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    status, out, err = ended(process)
    assert (status, out, err.splitlines()[-1]) == (130, "", "stopped")
    assert "Request" in err and "/preupload/main" in err  # told, and without the token
    assert hub.repositories["me/model"].files().keys() == {".gitattributes"}

    hub.requests.clear()
    status, out, err = ended(start())  # with the check, which loads what is to be uploaded
    assert status == 0, err
    repository = hub.repositories["me/model"]
    assert f'revision="{repository.branches["main"]}"' in out
    assert repository.files()["model.safetensors"] == (vqgan_folder / "model.safetensors").read_bytes()
    assert hub.count("POST .*/preupload/") == 1 and hub.count("PUT /large/") == 0  # the weights had arrived
