"""A language model behind an address, asked in text: OpenAI's completions protocol, or TGI's own.

Knows texts and the two protocols.
"""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import torch
from huggingface_hub import InferenceClient, TextGenerationOutput, get_token

from ..errors import UserError
from .base import CompletionModel, NoLogLikelihoodsError, check_request, up_to
from .endpoint import Endpoint, RequestFailedError
from .questions import common_prefix_length

TGI = "tgi+"
HUGGING_FACE = ("huggingface.co", "huggingface.cloud", "hf.space")
# A few tokens in every tokenizer: what an endpoint says of it shows whether it says anything of a given text.
PROBE = "The photo shows a dog."
Result = TypeVar("Result")


@dataclass(frozen=True)
class ScoredText:
    """A text as the served model reads it.

    Args:
        tokens: T tokens, as texts or ids: equal where the tokens are.
        log_probs: Natural log-probability of each behind those before it; None for the first.
    """

    tokens: tuple[str | int, ...]
    log_probs: tuple[float | None, ...]


class Protocol(ABC):
    """How an endpoint is spoken to. Every method asks once and raises `RequestFailedError` where it fails.

    Args:
        endpoint: Where the model is served.
    """

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint

    @abstractmethod
    def describe(self) -> tuple[str, int | None]:
        """The served model's name, and the length of its context in tokens, where known."""

    @abstractmethod
    def complete(self, prompt: str, max_new_tokens: int, stop: str | None) -> str:
        """The greedy continuation of a prompt, perhaps with `stop` and more behind it."""

    @abstractmethod
    def score(self, text: str) -> ScoredText | None:
        """The text's tokens with their log-probabilities; None where the endpoint gives none."""


class OpenAIProtocol(Protocol):
    """`/v1/completions` as OpenAI defined it and vLLM, llama.cpp, SGLang and others serve it.

    `InferenceClient` has no public method for it (its chat completions put a template around a prompt, and
    `text_generation` speaks TGI's protocol), so the requests are made here.

    Args:
        endpoint: Its address ends in `/v1`.
        model: The name of the model; the first that the endpoint lists by default.
    """

    def __init__(self, endpoint: Endpoint, model: str | None):
        super().__init__(endpoint)
        self.model = model

    def describe(self) -> tuple[str, int | None]:
        """The name that was given, or the first of the endpoint's list; vLLM's list also has the context's length."""
        if self.model is not None:
            return self.model, None
        listed = self._read(lambda answer: answer["data"][0], self.endpoint.request("GET", "/models"))
        self.model = self._read(lambda first: _checked(first["id"], str), listed)
        length = listed.get("max_model_len")
        return self.model, length if isinstance(length, int) else None

    def complete(self, prompt: str, max_new_tokens: int, stop: str | None) -> str:
        """The greedy continuation of a prompt."""
        stops = {} if stop is None else {"stop": [stop]}
        choice = self._ask(prompt, max_tokens=max_new_tokens, **stops)[0]
        return self._read(lambda choice: _checked(choice["text"], str), choice)

    def score(self, text: str) -> ScoredText | None:
        """The text's tokens, which the endpoint gives back with `echo`, and one more that is dropped."""
        # Not every server takes max_tokens=0.
        choice, usage = self._ask(text, max_tokens=1, echo=True, logprobs=1)
        given = choice.get("logprobs")
        if not isinstance(given, dict) or not given.get("tokens") or not given.get("token_logprobs"):
            return None
        tokens, log_probs = tuple(given["tokens"]), tuple(given["token_logprobs"])
        count = usage.get("prompt_tokens")
        if not isinstance(count, int) or not 0 <= len(tokens) - count <= 1:
            count = len(tokens) - 1  # an end token in place of the new one may be left out, a new one may not
        if len(tokens) != len(log_probs):
            raise self.endpoint.malformed(f"{len(tokens)} tokens with {len(log_probs)} logprobs")
        if count < 1:  # only the new token: there was no echo
            return None
        return _scored(tokens[:count], log_probs[:count])

    def _ask(self, prompt: str, **parameters: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The first choice of a completion, and its usage."""
        payload = {"model": self.model, "prompt": prompt, "temperature": 0, "top_p": 1, **parameters}
        answer = self.endpoint.request("POST", "/completions", payload)
        choice = self._read(lambda answer: _checked(answer["choices"][0], dict), answer)
        usage = answer.get("usage")
        return choice, usage if isinstance(usage, dict) else {}

    def _read(self, take: Callable[[Any], Result], answer: Any) -> Result:
        """What `take` finds in an answer."""
        try:
            return take(answer)
        except (LookupError, TypeError) as error:
            raise self.endpoint.malformed(answer) from error


class TGIProtocol(Protocol):
    """The native protocol of text-generation-inference, spoken by `InferenceClient`.

    Args:
        endpoint: The server's root.
        token: Sent as bearer token.
    """

    def __init__(self, endpoint: Endpoint, token: str | None):
        super().__init__(endpoint)
        # without a token the client would send Hugging Face's to whatever server this is
        headers = {"authorization": ""} if token is None else None
        self._client = InferenceClient(endpoint.address(), token=token, timeout=endpoint.timeout, headers=headers)

    def describe(self) -> tuple[str, int | None]:
        """The model's name and the most tokens of prompt and answer together."""
        info = self.endpoint.request("GET", "/info")  # the client's own get_endpoint_info knows no time-out
        if not isinstance(info, dict) or not isinstance(info.get("model_id"), str):
            raise self.endpoint.malformed(info)
        length = info.get("max_total_tokens")
        return info["model_id"], length if isinstance(length, int) else None

    def complete(self, prompt: str, max_new_tokens: int, stop: str | None) -> str:
        """The greedy continuation of a prompt, which ends with `stop`."""
        text = self._generate(prompt, max_new_tokens=max_new_tokens, stop=None if stop is None else [stop])
        if not isinstance(text, str):
            raise self.endpoint.malformed(text)
        return text

    def score(self, text: str) -> ScoredText | None:
        """The text's tokens as the server's prefill gives them: since its version 3 only where it was told to."""
        output = self._generate(text, max_new_tokens=1, details=True, decoder_input_details=True)
        prefill = getattr(getattr(output, "details", None), "prefill", None)
        if not prefill:
            return None
        return _scored(tuple(token.id for token in prefill), tuple(token.logprob for token in prefill))

    def _generate(self, prompt: str, **parameters: Any) -> str | TextGenerationOutput:
        try:
            return self._client.text_generation(prompt, do_sample=False, return_full_text=False, **parameters)
        except Exception as error:  # whatever the client makes of an answer that it cannot read
            raise self.endpoint.failure(error) from error


class RemoteCompletions(CompletionModel):
    """Completions of a served language model.

    Every prompt is a request of its own; the server makes batches of them. Where a text is scored, it is sent with
    each answer and once without: an answer begins where the server's encodings of these texts part, as in
    `encode_question`, and not where the server says that its text begins, because many count the texts of special
    tokens as well.

    Args:
        url: `http://host:port/v1` for OpenAI's completions protocol, with `#name` behind it where several models are
            served; `tgi+http://host:port` for TGI's native one. `https://` likewise.
        model: The model's name; by default that behind `#`, else the first that the endpoint lists.
        token: Sent as bearer token; by default that of `token_for`. Shown nowhere.
        timeout: Seconds that one attempt may take.
        retries: Attempts after the first.
        concurrency: The most requests at a time.
        seed: Of the random part of the waits between attempts.
        sleep: Waits between attempts, given the seconds; by default a wait that ends once another request failed.

    Raises:
        UserError: If the address is none, or the endpoint does not answer as the protocol wants it.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        token: str | None = None,
        timeout: float = 60.0,
        retries: int = 4,
        concurrency: int = 8,
        seed: int = 0,
        sleep: Callable[[float], Any] | None = None,
    ):
        address, _, fragment = url.partition("#")
        model = model or fragment or None
        native = address.startswith(TGI)
        token = token or token_for(address.removeprefix(TGI))
        self._endpoint = Endpoint(
            address.removeprefix(TGI) if native else _with_version(address),
            token,
            timeout,
            retries,
            concurrency,
            seed,
            sleep,
        )
        if native and model is not None:
            raise UserError(f"A TGI server serves one model: leave {model!r} out of {url}.")
        self._protocol = TGIProtocol(self._endpoint, token) if native else OpenAIProtocol(self._endpoint, model)
        self._gives_log_probs = False
        served, context_length = self._endpoint.run(lambda _: self._protocol.describe(), [None])[0]
        super().__init__(f"{TGI if native else ''}{self._endpoint.name}#{served}", context_length)

    def complete(self, prompts: Sequence[str], max_new_tokens: int, stop: str | None = None) -> list[str]:
        """Asks for the most likely continuation of each prompt, see `CompletionModel.complete`.

        Raises:
            UserError: If the endpoint fails for good.
        """
        check_request(max_new_tokens, stop)
        ask = partial(self._protocol.complete, max_new_tokens=max_new_tokens, stop=stop)
        return [up_to(text, stop) for text in self._endpoint.run(ask, prompts)]

    def log_likelihoods(self, prompts: Sequence[str], answers: Sequence[str]) -> torch.Tensor:
        """Asks how likely each answer is behind each prompt, see `CompletionModel.log_likelihoods`.

        Raises:
            UserError: If the endpoint fails for good.
            NoLogLikelihoodsError: If it gives no log-probabilities of a given text.
        """
        if not prompts or not answers:
            return torch.zeros(len(prompts), len(answers))
        self.require_log_likelihoods()
        texts = [prompt + answer for prompt in prompts for answer in ("", *answers)]
        scored = self._endpoint.run(self._score, texts)
        count = len(answers) + 1
        rows = [self._behind(*scored[begin : begin + count]) for begin in range(0, len(scored), count)]
        return torch.tensor(rows, dtype=torch.float32)

    def require_log_likelihoods(self) -> None:
        """Finds out once whether the endpoint says how likely a given text is.

        Raises:
            UserError: If the endpoint fails for good.
            NoLogLikelihoodsError: If it does not.
        """
        if not self._gives_log_probs:
            self._endpoint.run(self._probe, [PROBE])
            self._gives_log_probs = True

    def count_tokens(self, text: str) -> None:
        """None: the tokenizer is the server's."""

    def another(self) -> "RemoteCompletions":
        """The same: what prompts share is the server's to remember."""
        return self

    def _probe(self, text: str) -> None:
        try:
            scored, why = self._protocol.score(text), "it sent none"
        except RequestFailedError as error:
            if error.status not in (400, 422):  # what servers answer to a parameter that they do not know
                raise
            scored, why = None, f"it {error.found}"
        if scored is None or len(scored.tokens) < 2:
            raise NoLogLikelihoodsError(
                f"{self.name} gives no log-probabilities of a given text ({why}), so it can write answers but not "
                "weigh them: start the server with them, or have the answers written."
            )

    def _score(self, text: str) -> ScoredText:
        scored = self._protocol.score(text)
        if scored is None:
            raise self._endpoint.malformed("an answer without the text's logprobs, which it gave before")
        return scored

    def _behind(self, prompt: ScoredText, *answers: ScoredText) -> list[float]:
        """The log-likelihood of each answer: the sum from where any of the encodings parts from the others."""
        start = common_prefix_length([prompt.tokens, *(answer.tokens for answer in answers)])
        start = min(start, *(len(answer.tokens) - 1 for answer in answers))
        if start < 1:
            raise UserError("An answer needs a token of the prompt before it: begin the prompt with some text.")
        return [math.fsum(cast(Sequence[float], answer.log_probs[start:])) for answer in answers]


def token_for(address: str) -> str | None:
    """The token that a server is sent unless another is given: `OPENAI_API_KEY`, as its clients everywhere do.

    Hugging Face's own (`HF_TOKEN`, or that of `hf auth login`) opens more than one server, so it is sent to Hugging
    Face's hosts only.

    Args:
        address: The server's.
    """
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:  # refused where it is connected to
        return None
    trusted = any(host == name or host.endswith(f".{name}") for name in HUGGING_FACE)
    return os.environ.get("OPENAI_API_KEY") or (get_token() if trusted else None)


def _with_version(address: str) -> str:
    """The address with the `/v1` that all servers of this protocol have, where there is no path."""
    return address if "/" in address.partition("://")[2].rstrip("/") else f"{address.rstrip('/')}/v1"


def _checked(value: Any, kind: type[Result]) -> Result:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} in place of {kind.__name__}")
    return value


def _scored(tokens: tuple[str | int, ...], log_probs: tuple[Any, ...]) -> ScoredText | None:
    """A scored text; None where a token behind the first has no log-probability."""
    known = (isinstance(value, (int, float)) and not math.isnan(value) for value in log_probs[1:])
    return ScoredText(tokens, (None, *log_probs[1:])) if all(known) else None
