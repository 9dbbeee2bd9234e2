"""A tiny model in this process, and the same model behind a real HTTP server that also fails on purpose."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from visual_sentence import LanguageModel
from visual_sentence.completion import LocalCompletions
from visual_sentence.completion.remote import RemoteCompletions

CONTEXT = 1024
HTML = b"<html><body>Welcome to nginx!</body></html>"


class ModelServer(ThreadingHTTPServer):
    """Speaks OpenAI's completions protocol below /v1 and TGI's native one at the root, with a plain greedy loop.

    Attributes:
        faults: What becomes of the next completion requests, one name each: a status ("503", "429 7" with a
            Retry-After), or a method of `Handler` behind "fault_". None answers well.
        logprobs: "given", or how they are kept back: "null", "missing", "no-echo", "refused", "null-tokens".
        seen: (path, payload, headers) of every request.
        most_at_once: The most completion requests that were in work together.
        pause: Seconds that each of them takes at least.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.tokenizer = model, tokenizer
        self.faults: list[str | None] = []
        self.logprobs, self.pause = "given", 0.0
        self.seen: list[tuple[str, Any, dict[str, str]]] = []
        self.at_once = self.most_at_once = 0
        self.lock, self.closing = threading.Lock(), threading.Event()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are part of the tests."""

    def greedy(self, prompt: str, count: int, stop: str | None, keep_stop: bool) -> tuple[str, list[int]]:
        ids = self.tokenizer(prompt)["input_ids"]
        written: list[int] = []
        for _ in range(count):
            with torch.inference_mode():
                token = int(self.model(input_ids=torch.tensor([ids + written])).logits[0, -1].argmax())
            if token == self.tokenizer.eos_token_id:
                break
            written.append(token)
            text = self.tokenizer.decode(written)
            if stop is not None and stop in text:
                before = text.split(stop)[0]
                return before + stop * keep_stop, written
        return self.tokenizer.decode(written), written

    def token_log_probs(self, ids: list[int]) -> list[float | None]:
        with torch.inference_mode():
            log_probs = self.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        return [None, *(log_probs[at - 1, ids[at]].item() for at in range(1, len(ids)))]


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: ModelServer

    def log_message(self, *args: object) -> None:
        """Keeps the tests' output clean."""

    def reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        server = self.server
        server.seen.append((self.path, None, dict(self.headers)))
        if self.path == "/v1/models":
            listed = [{"id": "tiny", "max_model_len": CONTEXT}, {"id": "other"}]
            self.reply(200, {"object": "list", "data": listed})
        elif self.path == "/info":
            self.reply(200, {"model_id": "tiny-tgi", "max_total_tokens": CONTEXT})
        else:
            self.reply(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.seen.append((self.path, payload, dict(self.headers)))
            fault = server.faults.pop(0) if server.faults else None
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        time.sleep(server.pause)
        answer = self.completion(payload) if "/completions" in self.path else self.native(payload)
        with server.lock:  # before the client knows that it may send the next one
            server.at_once -= 1
        if fault is None:
            self.reply(*answer)
        elif fault[0].isdigit():
            status, _, wait = fault.partition(" ")
            error = {"error": {"message": f"out of order {self.headers.get('Authorization') or None}", "code": status}}
            self.reply(int(status), error, {"Retry-After": wait} if wait else None)
        else:
            getattr(self, f"fault_{fault}")()

    def completion(self, payload: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        server, prompt = self.server, payload["prompt"]
        if payload["model"] not in ("tiny", "other"):
            return 404, {"object": "error", "message": f"The model `{payload['model']}` does not exist.", "code": 404}
        stop = payload.get("stop", [None])[0]
        text, written = server.greedy(prompt, payload["max_tokens"], stop, keep_stop=False)
        ids = server.tokenizer(prompt)["input_ids"]
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(written)}
        choice: dict[str, Any] = {"index": 0, "text": text, "logprobs": None}
        if payload.get("echo") and server.logprobs == "refused":
            return 400, {"error": {"message": "echo is not supported"}}
        if payload.get("logprobs") is not None and server.logprobs != "null":
            echoed = ids if payload.get("echo") and server.logprobs != "no-echo" else []
            chosen = echoed + written
            values = server.token_log_probs(ids + written)[-len(chosen) :] if chosen else []
            values = [None] * len(values) if server.logprobs == "null-tokens" else values
            choice["logprobs"] = {"tokens": [server.tokenizer.decode([i]) for i in chosen], "token_logprobs": values}
        if server.logprobs == "missing":
            del choice["logprobs"]
        return 200, {"choices": [choice], "usage": usage}

    def native(self, payload: dict[str, Any]) -> tuple[int, Any]:
        server, parameters = self.server, payload["parameters"]
        stop = (parameters.get("stop") or [None])[0]
        text, written = server.greedy(payload["inputs"], parameters["max_new_tokens"], stop, keep_stop=True)
        if parameters.get("return_full_text", True):
            text = payload["inputs"] + text
        answer: dict[str, Any] = {"generated_text": text}
        if parameters.get("details"):
            ids = server.tokenizer(payload["inputs"])["input_ids"]
            kept = server.logprobs != "given" or not parameters.get("decoder_input_details")
            pairs = [] if kept else zip(ids, server.token_log_probs(ids), strict=True)
            prefill = [{"id": token, "text": "", "logprob": value} for token, value in pairs]
            answer["details"] = {"finish_reason": "length", "generated_tokens": len(written), "prefill": prefill}
            answer["details"]["tokens"] = []
        return 200, [answer]

    def fault_stall(self) -> None:
        self.server.closing.wait(5)

    def fault_drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.closing.wait(0.05):
            self.wfile.write(b" ")

    def fault_hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def fault_break_off(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"choices": [{"te')
        self.close_connection = True

    def fault_html(self) -> None:
        self.reply(200, HTML)

    def fault_binary(self) -> None:
        self.reply(200, bytes(range(256)))

    def fault_empty(self) -> None:
        self.reply(200, b"")

    def fault_list(self) -> None:
        self.reply(200, [1, 2])

    def fault_no_choices(self) -> None:
        self.reply(200, {"choices": []})

    def fault_number(self) -> None:
        self.reply(200, {"choices": [{"text": 7}], "generated_text": 7})

    def fault_uneven(self) -> None:
        given = {"tokens": ["a", "b", "c"], "token_logprobs": [None, -1.0]}
        self.reply(200, {"choices": [{"text": "", "logprobs": given}]})

    def fault_die(self) -> None:
        self.server.server_close()
        self.fault_hang_up()


@pytest.fixture
def local(llama, bpe_tokenizer) -> LocalCompletions:
    return LocalCompletions(LanguageModel(llama, bpe_tokenizer, "tiny"), batch_size=2)


@pytest.fixture
def start_server() -> Iterator[Callable[..., ModelServer]]:
    """Serves a model until the test ends."""
    servers = []

    def start(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> ModelServer:
        server = ModelServer(model, tokenizer)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.closing.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(start_server, llama, bpe_tokenizer) -> ModelServer:
    """The model of `local`, served."""
    return start_server(llama, bpe_tokenizer)


@pytest.fixture
def no_tokens(monkeypatch, tmp_path) -> None:
    """No token of whoever runs the tests is sent anywhere."""
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))


@pytest.fixture
def waits() -> list[float]:
    """The seconds that `connect` would have slept."""
    return []


@pytest.fixture
def connect(server, waits, no_tokens) -> Callable[..., RemoteCompletions]:
    """Connects to the server, without ever sleeping between attempts."""

    def make(path: str = "/v1", **settings: Any) -> RemoteCompletions:
        settings = {"timeout": 5.0, "sleep": waits.append, **settings}
        return RemoteCompletions(server.root + path, **settings)

    return make
