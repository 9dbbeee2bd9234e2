"""A Hub on this machine, the command that talks to it, an environment without the package, models to publish."""

import importlib.util
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import close_session, constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from transformers.dynamic_module_utils import get_imports

from visual_sentence import hub_code
from visual_sentence.modeling import VQGANImageProcessor
from visual_sentence.publishing import card

from ..cli.conftest import Outcome, run  # noqa: F401  (fixture)
from ..modeling.conftest import make_local_v2l, make_simlvm, make_simlvm_processor, make_vqgan  # noqa: F401  (fixtures)
from .fresh_environment import FreshEnvironment, make_environment
from .hub_server import OTHER_TOKEN, TOKEN, HubServer

ROOT = Path(__file__).resolve().parents[2]
SECRETS = (TOKEN, OTHER_TOKEN)


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> FreshEnvironment:
    """A virtual environment without the package."""
    return make_environment(tmp_path_factory.mktemp("fresh") / "environment")


@pytest.fixture(scope="session")
def build_repositories() -> Callable[..., int]:
    """Runs scripts/build_hub_repositories.py with arguments; gives its status."""
    spec = importlib.util.spec_from_file_location("build_hub_repositories", ROOT / "scripts/build_hub_repositories.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments: object) -> int:  # noqa: F811
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["build_hub_repositories.py", *map(str, arguments)])
            return module.main()

    return run


@pytest.fixture(scope="session")
def built_repositories(build_repositories, tmp_path_factory) -> Path:
    """The folder with the repositories of all models that ship."""
    output = tmp_path_factory.mktemp("repositories") / "new"
    assert build_repositories("--output", output, "--owner", "me") == 0
    return output


@pytest.fixture(scope="module", autouse=True)
def _read_once():
    """The package's own code, which does not change meanwhile, is looked through once and not for every test."""
    known: dict[str, list[str]] = {}

    def imports_of(path: Path) -> list[str]:
        text = path.read_text(encoding="utf-8")
        if text not in known:
            known[text] = get_imports(path)
        return known[text]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_code, "relative_imports", cache(hub_code.relative_imports))
        patch.setattr(card, "get_imports", imports_of)
        yield


@pytest.fixture
def hub(monkeypatch) -> HubServer:
    """A running Hub that this process takes for the only one, with a token that may write."""
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("{repo_id}")
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{server.endpoint}/{''.join(template[1:])}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        disable_progress_bars()  # as the command does in a process of its own
        close_session()
        yield server
        close_session()
        enable_progress_bars()


@pytest.fixture
def quick(monkeypatch) -> list[float]:
    """Waits that pass at once; gives the seconds that were asked for."""
    waited: list[float] = []
    # not time.sleep itself, which the server needs
    monkeypatch.setattr("visual_sentence.publishing.connection.time", SimpleNamespace(sleep=waited.append))
    for name in ("utils._http", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{name}.time", SimpleNamespace(sleep=lambda _: None))
    return waited


@pytest.fixture
def push_model(run, caplog, tmp_path) -> Callable[..., Outcome]:  # noqa: F811
    """Runs `visual-sentence push` on me/model, without the check that takes a process of its own."""

    def call(model: object, *arguments: object, check: bool = False) -> Outcome:
        with caplog.at_level(logging.DEBUG):
            named = () if "--repo-id" in arguments else ("--repo-id", "me/model")
            outcome = run("push", model, *named, *arguments, *(() if check else ("--no-check",)))
        for said in (outcome.out, outcome.err, caplog.text):
            assert not any(secret in said for secret in SECRETS)
        return outcome

    return call


@pytest.fixture
def vqgan_folder(make_vqgan, tmp_path) -> Path:  # noqa: F811
    """A saved VQGAN of random weights."""
    folder = tmp_path / "tiny-vqgan"
    make_vqgan().save_pretrained(folder)
    VQGANImageProcessor(local_size=16).save_pretrained(folder)
    return folder
