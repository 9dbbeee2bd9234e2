"""Examples to begin with: photographs that scikit-image ships, drawn shapes, and a film of one."""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

from PIL import Image

from ..data import SentenceMaker, TaskData, make_task, parse_task_data
from ..demo.sentences import UNSEEN
from ..demo.tissue import TissueSquares
from ..demo.words_picture import TISSUE, load_photographs

CAT, COFFEE, ROCKET, PERSON = "chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png"
MOTORCYCLE, SAME_MOTORCYCLE = "motorcycle_left.png", "motorcycle_right.png"
PAIRS, SIDE = 3, 128
SHAPES = {
    "Segmentation": f"segmentation:{UNSEEN}",
    "Denoising": f"denoising:{UNSEEN}?sigma=50",
    "Brightness": f"brightness:{UNSEEN}?factor=0.4",
    "Colourisation": f"colourisation:{UNSEEN}",
}
NUCLEI = "Nuclei"
SENTENCES = (*SHAPES, NUCLEI)
FILM_FRAMES, FILM_SIDE, FILM_RATE = 48, 128, 16


@cache
def photograph(name: str) -> Image.Image:
    """One of scikit-image's, at most 512 pixels wide and high."""
    picture = load_photographs()[name].copy()
    picture.thumbnail((512, 512))
    return picture


@cache
def sentence(name: str) -> tuple[list[tuple[Image.Image, Image.Image]], Image.Image]:
    """Solved pairs and a query of a task.

    Args:
        name: One of `SENTENCES`.
    """
    if name == NUCLEI:
        data = TaskData(make_task("segmentation"), TissueSquares(load_photographs()[TISSUE]), text=name)
    else:
        data = parse_task_data(SHAPES[name])
    maker = SentenceMaker(data, None, seed=0, size=SIDE)
    found = [maker.pair(place) for place in range(PAIRS + 1)]
    return [(pair.input, pair.target) for pair in found[:PAIRS]], found[PAIRS].input


def write_film(path: Path) -> None:
    """Writes a film of a square window that moves over a photograph.

    Args:
        path: An .mp4 file.
    """
    from ..video.opening import pyav

    picture = photograph(CAT)
    room = min(picture.size) - FILM_SIDE
    with pyav().open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=Fraction(FILM_RATE))
        stream.width = stream.height = FILM_SIDE
        stream.pix_fmt = "yuv420p"
        for place in range(FILM_FRAMES):
            corner = round(room * place / FILM_FRAMES)
            shown = picture.crop((corner, corner, corner + FILM_SIDE, corner + FILM_SIDE))
            for packet in stream.encode(pyav().VideoFrame.from_image(shown)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def gallery(names: Sequence[str]) -> list[Image.Image]:
    """Some photographs."""
    return [photograph(name) for name in names]


__all__ = ["CAT", "COFFEE", "MOTORCYCLE", "PERSON", "ROCKET", "SAME_MOTORCYCLE", "SENTENCES"]
__all__ += ["gallery", "photograph", "sentence", "write_film"]
