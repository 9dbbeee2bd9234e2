"""The page, served once from this process with the models that ship and the offline ones."""

from collections.abc import Callable, Iterator

import pytest
from PIL import Image

pytest.importorskip("gradio", reason="needs Gradio: pip install 'visual-sentence[app]'")

from visual_sentence.app import Limits, launch_app
from visual_sentence.app.examples import CAT, COFFEE, MOTORCYCLE, PERSON, ROCKET, photograph

PHOTOGRAPHS = {"cat": CAT, "coffee": COFFEE, "rocket": ROCKET, "motorcycle": MOTORCYCLE, "person": PERSON}


@pytest.fixture(scope="session")
def address(offline_models) -> Iterator[str]:
    """Where the page is."""
    said: list[str] = []
    app = launch_app(limits=Limits(megabytes=1, megapixels=1, pictures=4), block=False, say=said.append)
    yield said[0]
    app.close(verbose=False)


@pytest.fixture
def photo(tmp_path) -> Callable[[str], str]:
    """Saves one of the photographs; gives its path."""

    def save(name: str, picture: Image.Image | None = None) -> str:
        path = tmp_path / f"{name}.jpg"
        if not path.exists():  # one that is being uploaded is not written again
            (photograph(PHOTOGRAPHS[name]) if picture is None else picture).save(path)
        return str(path)

    return save
