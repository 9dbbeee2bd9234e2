"""What all pipelines share: inputs of every kind, streams, broken pictures in their place."""

import base64
import io
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image
from transformers.pipelines.pt_utils import KeyDataset

from visual_sentence import UserError
from visual_sentence.modeling import VQGANConfig, VQGANImageProcessor, VQGANModel
from visual_sentence.pipelines.base import VisualPipeline
from visual_sentence.pipelines.inputs import open_picture

SIZES = {"image_size": 16, "codebook_size": 8, "codebook_dim": 4, "block_out_channels": [4], "layers_per_block": 1}


class MeanPipeline(VisualPipeline):
    """The mean red value of a picture, times a factor."""

    task_name = "mean"
    forward_parameters = ("factor",)
    postprocess_parameters = ("digits",)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.batches: list[int] = []

    def check(self, parameters: dict) -> dict:
        if parameters.get("factor") == 0:
            raise UserError("A factor of 0 says nothing: give another.")
        return parameters

    def read(self, image) -> dict:
        picture = open_picture(image)
        return {"pixels": torch.from_numpy(np.array(picture, dtype=np.float32))[None, :1, :1, 0], "size": picture.size}

    def answer(self, inputs: dict, factor: float = 1) -> dict:
        self.batches.append(len(inputs["pixels"]))
        assert len(inputs["size"]) == len(inputs["pixels"])
        return {"mean": inputs["pixels"].mean((1, 2)) * factor, "size": inputs["size"], "nothing": None}

    def finish(self, row: dict, digits: int = 1) -> dict:
        assert row["mean"].shape == () and row["nothing"] is None
        return {"mean": round(row["mean"].item(), digits), "width": row["size"][0]}


@pytest.fixture(scope="module")
def model() -> VQGANModel:
    return VQGANModel(VQGANConfig(**SIZES, latent_channels=4, norm_num_groups=2)).eval()


@pytest.fixture
def make(model):
    return partial(MeanPipeline, model=model, image_processor=VQGANImageProcessor(local_size=16), device="cpu")


@pytest.fixture
def measure(make) -> MeanPipeline:
    return make()


def plain(value: int, width: int = 6) -> Image.Image:
    return Image.new("RGB", (width, 5), (value, 0, 0))


def expected(*values: int) -> list[dict]:
    return [{"mean": float(value), "width": 6} for value in values]


def file_bytes(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "png")
    return content.getvalue()


@pytest.fixture
def served(tmp_path) -> Iterator[str]:
    """The address of a small web server that gives the files of `tmp_path / "web"`."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "seven.png").write_bytes(file_bytes(plain(7)))
    (folder / "page.html").write_text("<p>no picture</p>")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_one_picture_of_every_kind(measure, served, tmp_path):
    picture = plain(7)
    picture.save(tmp_path / "seven.png")
    content = file_bytes(picture)
    array = np.array(picture)
    kinds = {
        "PIL": picture,
        "path": tmp_path / "seven.png",
        "text": str(tmp_path / "seven.png"),
        "URL": f"{served}/seven.png",
        "data URL": f"data:image/png;base64,{base64.b64encode(content).decode()}",
        "array": array,
        "tensor": torch.from_numpy(array).permute(2, 0, 1),
        "row": {"image": picture, "label": 3},
        "row of a path": {"image": str(tmp_path / "seven.png")},
        "undecoded": {"image": {"bytes": content, "path": "seven.png"}},
        "undecoded path": {"image": {"bytes": None, "path": str(tmp_path / "seven.png")}},
    }
    for kind, given in kinds.items():
        assert measure(given) == expected(7)[0], kind
        assert measure([given, plain(9)], batch_size=2) == expected(7, 9), kind


def test_what_is_no_picture_is_named(measure, served, tmp_path):
    (tmp_path / "notes.png").write_text("only text")
    for given, message in [
        (tmp_path / "notes.png", "not a picture that can be read"),
        ({"label": 3}, "keys label has no picture"),
        (f"{served}/page.html", "page.html cannot be read"),
        (f"{served}/missing.png", "missing.png cannot be read .*404"),
        ("http://127.0.0.1:9/closed.png", "closed.png cannot be read"),
        ("data:image/png;base64,AAAA", "cannot be read"),
        (np.zeros((2, 3, 4, 5)), "must have shape"),
        (3, "takes pictures .* got int"),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            measure(given)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="Found int where a picture was expected"):
        measure([plain(1), 3])


VALUES = [10, 20, 30, 40, 50]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_collections_of_every_kind_give_the_same(batch_size, measure):
    pictures = [plain(value) for value in VALUES]
    rows = Dataset.from_list(
        [{"image": {"bytes": file_bytes(one), "path": None}} for one in pictures],
        features=Features({"image": ImageFeature()}),
    )
    whole = {"list": pictures, "tuple": tuple(pictures)}
    streams = {
        "generator": (one for one in pictures),
        "iterator": iter(pictures),
        "map": map(open_picture, pictures),
        "KeyDataset": KeyDataset(rows, "image"),
        "Dataset": rows,
        "IterableDataset": rows.to_iterable_dataset(),
        "column": rows["image"],
        "dict values": dict(enumerate(pictures)).values(),
    }
    for kind, given in whole.items():
        found = measure(given, batch_size=batch_size)
        assert isinstance(found, list) and found == expected(*VALUES), kind
    for kind, given in streams.items():
        found = measure(given, batch_size=batch_size)
        assert isinstance(found, Iterator), kind
        assert next(found) == expected(10)[0], kind
        assert list(found) == expected(*VALUES[1:]), kind


def test_batches_are_as_large_as_asked(measure):
    measure([plain(value) for value in VALUES], batch_size=2)
    assert measure.batches == [2, 2, 1]


def test_nothing_gives_nothing(measure):
    assert measure([]) == [] and measure(()) == []
    for empty in (iter(()), (one for one in ()), KeyDataset([], "image")):
        stream = measure(empty)
        with pytest.raises(StopIteration):
            next(stream)


def test_workers_read_pictures(measure, tmp_path):
    plain(8).save(tmp_path / "eight.png")
    given = [plain(7), tmp_path / "missing.png", tmp_path / "eight.png"]
    found = measure(given, num_workers=2, on_error="report", batch_size=2)
    assert [row.get("mean") for row in found] == [7, None, 8]


def test_a_stream_is_read_as_it_is_needed(measure):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield plain(5)

    stream = measure(endless(), batch_size=3)
    assert not taken
    assert next(stream) == expected(5)[0] and len(taken) == 3
    next(stream), next(stream)
    assert len(taken) == 3
    next(stream)
    assert len(taken) == 6


@pytest.mark.parametrize("batch_size", [1, 8])
def test_two_hundred_pictures_stream_with_flat_memory(batch_size, measure, monkeypatch):
    made: list[weakref.ref] = []

    def pictures():
        for index in range(200):
            picture = plain(index)
            made.append(weakref.ref(picture))
            yield picture
            del picture

    def read(image):
        inputs = MeanPipeline.read(measure, image)
        made.append(weakref.ref(inputs["pixels"]))
        return inputs

    monkeypatch.setattr(measure, "read", read)
    most = max(sum(one() is not None for one in made) for _ in measure(pictures(), batch_size=batch_size))
    assert len(made) == 400 and most <= batch_size + 1


@pytest.fixture
def broken(tmp_path) -> tuple[list, list]:
    """Inputs of which the 1st, 3rd and 4th are broken in different ways, and what is to come of them."""
    (tmp_path / "text.png").write_text("only text")
    cut = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(cut, "jpeg")
    lazy = Image.open(io.BytesIO(cut.getvalue()[:700]))  # PIL reads the pixels when they are asked for
    given = [tmp_path / "missing.png", plain(20), tmp_path / "text.png", lazy, plain(50)]
    return given, ["no such file", expected(20)[0], "not a picture", "A picture cannot be read", expected(50)[0]]


def check_report(found: list, wanted: list) -> None:
    assert len(found) == len(wanted)
    for answer, what in zip(found, wanted, strict=True):
        if isinstance(what, dict):
            assert answer == what
        else:
            assert list(answer) == ["error"] and what in answer["error"] and "\n" not in answer["error"]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_broken_pictures_are_reported_in_their_place(batch_size, measure, broken):
    given, wanted = broken
    check_report(measure(given, on_error="report", batch_size=batch_size), wanted)
    assert sum(measure.batches) == 2  # broken ones are not asked about
    check_report(list(measure(iter(given), on_error="report", batch_size=batch_size)), wanted)
    check_report([measure(one, on_error="report") for one in given], wanted)


def test_reporting_may_be_the_default_of_a_pipeline(make, broken):
    given, wanted = broken
    measure = make(on_error="report", batch_size=2)
    check_report(measure(given), wanted)
    with pytest.raises(UserError, match="no such file"):
        measure(given, on_error="raise")


def test_without_reporting_the_first_broken_picture_ends_it(measure, broken):
    given, _ = broken
    with pytest.raises(UserError, match="no such file"):
        measure(given)
    with pytest.raises(UserError, match="not a picture"):
        measure(given[1:], batch_size=4)
    stream = measure(iter(given[1:]))
    assert next(stream) == expected(20)[0]
    with pytest.raises(UserError, match="not a picture"):
        next(stream)


def test_rows_that_a_data_set_cannot_decode_are_reported(measure):
    contents = [file_bytes(plain(10)), b"broken", file_bytes(plain(30))]
    undecoded = [{"image": {"bytes": content, "path": None}} for content in contents]
    rows = Dataset.from_list(undecoded, features=Features({"image": ImageFeature()}))
    wanted = [expected(10)[0], "cannot be read", expected(30)[0]]
    for given in (rows, KeyDataset(rows, "image"), iter(undecoded)):
        check_report(list(measure(given, on_error="report", batch_size=2)), wanted)
    with pytest.raises(UserError, match="cannot be read"):
        list(measure(rows))


def test_a_map_goes_on_behind_an_error_and_a_generator_cannot(measure, tmp_path):
    plain(10).save(tmp_path / "ten.png")
    paths = [tmp_path / "missing.png", tmp_path / "ten.png"]
    check_report(list(measure(map(open_picture, paths), on_error="report")), ["no such file", expected(10)[0]])
    with pytest.raises(UserError, match="no such file"):
        list(measure((open_picture(path) for path in paths), on_error="report"))


def test_parameters_go_where_they_belong(make, measure):
    picture = plain(7)
    assert measure(picture, factor=0.25, digits=2) == {"mean": 1.75, "width": 6}
    made = make(factor=0.25, digits=2)
    assert made(picture) == {"mean": 1.75, "width": 6}
    assert made(picture, factor=0.5) == {"mean": 3.5, "width": 6}


def test_wrong_parameters_are_refused_before_a_picture_is_read(make, measure):
    for arguments, message in [
        ({"temperature": 1}, "mean does not know temperature.* takes factor, digits, on_error, batch_size"),
        ({"on_error": "ignore"}, "Unknown on_error 'ignore': choose one of raise, report"),
        ({"factor": 0}, "A factor of 0 says nothing"),
    ]:
        with pytest.raises(UserError, match=message):
            measure("missing.png", **arguments)
        with pytest.raises(UserError, match=message):
            make(**arguments)
    with pytest.raises(UserError, match="pass image_processor"):
        make(image_processor=None)


def test_an_answer_for_another_number_of_pictures_is_noticed(measure, monkeypatch):
    monkeypatch.setattr(measure, "answer", lambda inputs: {"mean": inputs["pixels"].mean((1, 2))[:1]})
    with pytest.raises(ValueError, match="1 rows of 'mean' for 2 pictures"):
        measure([plain(1), plain(2)], batch_size=2)


def test_errors_name_the_file_of_a_picture(measure, tmp_path):
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "jpeg")
    path = Path(tmp_path / "cut.jpg")
    path.write_bytes(whole.getvalue()[:700])
    for given in (path, Image.open(path), {"image": Image.open(path)}):
        assert "cut.jpg" in measure(given, on_error="report")["error"]
