"""Parts of the page by themselves: how work becomes an event, masks that are painted, ports."""

import asyncio
import socket
import threading
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from PIL import Image

from visual_sentence import UserError
from visual_sentence.app import Limits, page
from visual_sentence.app.controls import as_event
from visual_sentence.app.limits import check_text
from visual_sentence.app.models import AppModels
from visual_sentence.app.page import free_port
from visual_sentence.app.sentence_tab import painted_mask
from visual_sentence.app.stops import Runs, Stopped, stoppable, stopped_by

VISITOR = SimpleNamespace(session_hash="one")


def begin(work, *values, outputs: int = 2, runs: Runs | None = None):
    event = as_event(work, "tab", 2, outputs, runs or Runs())
    return event(VISITOR, *values, progress=lambda *_, **__: None)


def run(work, *values, outputs: int = 2) -> list:
    return list(begin(work, *values, outputs=outputs))


def test_what_work_returns_comes_behind_its_stages():
    def work(value):
        yield "first"
        yield "second"
        return value, value + 1

    *between, last = run(work, 3)
    assert last == (3, 4)
    assert len(between) == 2 and between[0] == (gr.skip(), gr.skip())


def test_a_mistake_is_told_and_a_failure_hides_what_it_knew(caplog):
    def mistaken():
        yield "first"
        raise UserError("/tmp/folder/of-mine/film.mp4 is too large for http://host:8000/v1: make it smaller.")

    def failing():
        yield "first"
        raise RuntimeError("cannot open /home/someone/secret")

    with pytest.raises(gr.Error) as caught:
        run(mistaken)
    assert caught.value.message == "film.mp4 is too large for http://host:8000/v1: make it smaller."
    with pytest.raises(gr.Error) as caught:
        run(failing)
    assert "secret" not in caught.value.message and "RuntimeError" in caught.value.message
    assert "secret" in caplog.text


@pytest.mark.parametrize("tab", ["tab", None])
def test_work_that_is_stopped_ends_at_the_models_next_step(tab):
    model, done, runs = stoppable(torch.nn.Identity()), [], Runs()

    def work():
        done.append(model("first"))
        yield "first"
        done.append(model("second"))
        runs.stop("another")
        runs.stop("one", "another tab")
        done.append(model("third"))
        runs.stop("one", tab)
        done.append(model("fourth"))
        yield "second"
        return 1, 2

    event = begin(work, runs=runs)
    assert [found == (gr.skip(), gr.skip()) for found in event] == [True, True]
    assert done == ["first", "second", "third"]
    runs.stop("one")  # nothing is going on
    assert model("another's") == "another's"


def test_work_ends_between_its_stages_and_where_the_visitor_leaves():
    done, runs = [], Runs()

    def work():
        for stage in ("first", "second"):
            done.append(stage)
            yield stage
        return 1, 2

    event = begin(work, runs=runs)
    next(event)
    runs.stop("one")
    assert list(event) == [] and done == ["first"]
    event = begin(work)
    next(event)
    event.close()
    assert done == ["first", "first"]


def test_who_waits_for_the_models_can_stop():
    models, stop, taken, free = AppModels(), threading.Event(), threading.Event(), threading.Event()

    def other() -> None:
        with models.alone():
            taken.set()
            free.wait(timeout=60)

    thread = threading.Thread(target=other)
    thread.start()
    taken.wait(timeout=60)
    stop.set()
    with pytest.raises(Stopped), stopped_by(stop), models.alone():
        pass
    free.set()
    thread.join(timeout=60)
    with models.alone() as found:
        assert found is models


def test_leaving_the_page_stops_what_goes_on(monkeypatch):
    models = AppModels()
    monkeypatch.setattr(page, "AppModels", lambda references: models)
    app = page.build_app()
    (leave,) = [one.fn for one in app.fns.values() if any(event == "unload" for _, event in one.targets)]
    with models.runs.running("one", "restore") as stop:
        asyncio.run(leave(SimpleNamespace(session_hash="another")))
        assert not stop.is_set()
        asyncio.run(leave(VISITOR))
        assert stop.is_set()


def test_what_was_painted_is_white(tmp_path):
    layer = Image.new("RGBA", (20, 10))
    layer.paste((9, 9, 9, 255), (0, 0, 10, 10))
    layer.save(tmp_path / "layer.png")
    mask = painted_mask([str(tmp_path / "layer.png")], (40, 20), Limits())
    assert mask.size == (40, 20) and mask.getpixel((5, 5)) == (255, 255, 255) and mask.getpixel((30, 5)) == (0, 0, 0)
    Image.new("RGBA", (20, 10)).save(tmp_path / "empty.png")
    assert painted_mask([str(tmp_path / "empty.png")], (40, 20), Limits()) is None


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot be served at 127.0.0.1:{port}.*another --port"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", 0) > 0


def test_texts_and_limits():
    assert check_text(" a \n b ", "The name") == "a b"
    with pytest.raises(UserError, match="The name is empty"):
        check_text("  ", "The name")
    with pytest.raises(UserError, match="megabytes = 0"):
        Limits(megabytes=0)
