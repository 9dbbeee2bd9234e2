"""Scripts in processes of their own that begin with the libraries imported, which takes longer than what they do.

A server process imports once and is copied for every script. What a user starts, a new interpreter or a launcher, is
tested where that is the point; the rest of the tests of scripts are about what goes on inside.
"""

import contextlib
import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["visual_sentence", "visual_sentence.sentence_training", "visual_sentence.training"])


class ForkedScript:
    """A running script, with what the tests use of `subprocess.Popen`.

    Args:
        path: The script.
        arguments: Of its command line.
        environment: Its whole environment.
    """

    def __init__(self, path: Path, arguments: Sequence[str], environment: Mapping[str, str]):
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = tuple(Path(self._folder.name, name) for name in ("out", "err"))
        given = (str(path), list(arguments), dict(environment), tuple(map(str, self._outputs)))
        self._process = CONTEXT.Process(target=run_script, args=given)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """Its status; None while it is running."""
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number: int) -> None:
        """Sends it a signal."""
        os.kill(self._process.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for its end; gives what it wrote."""
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
            self._process.join()
            raise TimeoutError(f"not done after {timeout} seconds: {self._outputs[1].read_text()[-2000:]}")
        with self._folder:
            return self._outputs[0].read_text(), self._outputs[1].read_text()


class ForkedGroup:
    """A script in several processes that find each other, as torchrun starts them.

    Args:
        count: Processes.
        port: Where the first listens.
        path: As for `ForkedScript`.
        arguments: As for `ForkedScript`.
        environment: As for `ForkedScript`.
    """

    def __init__(self, count: int, port: int, path: Path, arguments: Sequence[str], environment: Mapping[str, str]):
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        common |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        self._ranks = [
            ForkedScript(path, arguments, {**environment, **common, "RANK": rank, "LOCAL_RANK": rank})
            for rank in map(str, range(count))
        ]

    @property
    def returncode(self) -> int | None:
        """The first status that is not 0; None while one of them is running."""
        found = [rank.returncode for rank in self._ranks]
        return None if None in found else next((status for status in found if status), 0)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for their ends; gives what all of them wrote."""
        out, err = zip(*(rank.communicate(timeout) for rank in self._ranks), strict=True)
        return "".join(out), "".join(err)


def run_script(path: str, arguments: list[str], environment: dict[str, str], outputs: tuple[str, str]) -> None:
    """A script's life, in its process."""
    for number, output in enumerate(outputs, start=1):
        with open(output, "w") as file:  # noqa: PTH123  (a file descriptor is wanted)
            os.dup2(file.fileno(), number)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", "1")))
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).parent))
    with contextlib.suppress(BrokenPipeError):
        runpy.run_path(path, run_name="__main__")


__all__ = ["ForkedGroup", "ForkedScript"]
