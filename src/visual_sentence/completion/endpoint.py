"""One HTTP endpoint: time-outs, repeated attempts with back-off, a bound on requests at a time.

Knows HTTP and JSON; knows nothing of language models.
"""

import json
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from random import Random
from threading import Event
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit, urlunsplit

from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from ..errors import UserError

# huggingface_hub moved from httpx to httpx2: its own exceptions say which of the two it speaks through.
http = sys.modules[HfHubHTTPError.__mro__[1].__module__.partition(".")[0]]

Item = TypeVar("Item")
Result = TypeVar("Result")
# Seconds: before the second attempt, and the most between two; a server that asks for more is given up.
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
SAID_CHARACTERS = 300
REMEDIES = {
    401: "set OPENAI_API_KEY or HF_TOKEN to a token that it accepts",
    403: "set OPENAI_API_KEY or HF_TOKEN to a token that it accepts",
    404: "check the address and the model's name behind #",
    429: "try again later, or lower the concurrency",
}


class RequestFailedError(Exception):
    """One request that came to nothing.

    Args:
        found: What happened, as it reads behind the endpoint's name.
        remedy: What to do about it.
        again: Whether the same request may succeed later.
        wait: Seconds that the server asked to wait.
        status: The HTTP status; None where there was none.
    """

    def __init__(self, found: str, remedy: str, again: bool = False, wait: float = 0.0, status: int | None = None):
        super().__init__(found)
        self.found, self.remedy, self.again, self.wait, self.status = found, remedy, again, wait, status


class Endpoint:
    """An address that is asked several things at a time, and again where it fails for the moment.

    Args:
        url: Where it is, without a user's name or password in what is shown of it.
        token: Sent as bearer token; shown nowhere.
        timeout: Seconds that one attempt may take.
        retries: Attempts after the first. Only time-outs, broken connections, the status 429 and those from 500
            upwards are tried again.
        concurrency: The most requests at a time.
        seed: Of the random part of the waits.
        sleep: Waits between attempts, given the seconds; by default a wait that ends early once another request
            has failed for good.

    Raises:
        UserError: If the address or a number is not as described.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        timeout: float,
        retries: int,
        concurrency: int,
        seed: int = 0,
        sleep: Callable[[float], Any] | None = None,
    ):
        self._parts = _split(url)
        shown = self._parts._replace(netloc=self._parts.netloc.rpartition("@")[2], query="")
        self.name = urlunsplit(shown)
        if timeout <= 0 or retries < 0 or concurrency < 1:
            raise UserError(
                "timeout must be above 0, retries at least 0 and concurrency at least 1, "
                f"got {timeout}, {retries} and {concurrency}."
            )
        self.timeout, self.retries, self.concurrency = timeout, retries, concurrency
        self._token, self._random, self._sleep = token, Random(seed), sleep
        # A client of its own: that of huggingface_hub refuses to work under HF_HUB_OFFLINE, which is about the Hub.
        self._client = http.Client(
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            timeout=timeout,
            follow_redirects=True,
            limits=http.Limits(max_connections=concurrency),
        )
        weakref.finalize(self, self._client.close)

    def address(self, path: str = "") -> str:
        """The whole address of a path below the endpoint's."""
        return urlunsplit(self._parts._replace(path=self._parts.path + path))

    def request(self, method: str, path: str, payload: dict[str, Any] | None = None) -> Any:
        """Asks once.

        Args:
            method: "GET" or "POST".
            path: Below the endpoint's address, with a leading slash.
            payload: Sent as JSON.

        Returns:
            The answer's JSON.

        Raises:
            RequestFailedError: If there is no answer in time, or not a good one.
        """
        deadline = time.monotonic() + self.timeout
        body = bytearray()
        try:
            with self._client.stream(method, self.address(path), json=payload) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if time.monotonic() > deadline:  # the client's own limit is on the silence between two chunks
                        raise http.ReadTimeout("answered too slowly")
        except (http.HTTPError, http.InvalidURL) as error:
            raise self.failure(error) from error
        text = body.decode("utf-8", errors="replace")
        if response.status_code >= 300:
            raise self._refused(response.status_code, response.headers.get("retry-after"), text)
        try:
            return json.loads(text)
        except ValueError as error:
            raise self.malformed(text) from error

    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Calls a function that asks once for every item, several at a time.

        Args:
            function: Raises `RequestFailedError` where it fails.
            items: What it is called with.

        Returns:
            Its results, in the items' order.

        Raises:
            UserError: As soon as one item failed for good; what has not begun by then is not asked.
        """
        if not items:
            return []
        stop, failures = Event(), []

        def work(item: Item) -> Result:
            try:
                return self._persist(function, item, stop)
            except CancelledError:
                raise
            except Exception as error:
                failures.append(error)
                stop.set()  # here, before this thread takes the next item
                raise

        pool = ThreadPoolExecutor(max_workers=min(self.concurrency, len(items)), thread_name_prefix="endpoint")
        try:
            futures = [pool.submit(work, item) for item in items]
            wait(futures, return_when=FIRST_EXCEPTION)
            if failures:
                raise failures[0]
            return [future.result() for future in futures]
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def failure(self, error: Exception) -> RequestFailedError:
        """What an exception of the HTTP libraries or of `InferenceClient` means."""
        response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        if response is not None:
            return self._refused(response.status_code, response.headers.get("retry-after"), response.text)
        if isinstance(error, (http.TimeoutException, TimeoutError)):
            remedy = "try again when it is less busy, or give it more time (timeout)"
            return RequestFailedError(f"did not answer within {self.timeout:g} s", remedy, again=True)
        if isinstance(error, OfflineModeIsEnabled):
            return RequestFailedError("cannot be asked while HF_HUB_OFFLINE is set", "unset it")
        if isinstance(error, http.ConnectError):
            remedy = "check the address, and that the server runs"
            return RequestFailedError(f"cannot be reached ({self.said(error)})", remedy, again=True)
        if isinstance(error, http.TransportError):
            remedy = "look into the server's log"
            return RequestFailedError(f"broke the connection off ({self.said(error)})", remedy, again=True)
        return self.malformed(str(error))

    def malformed(self, answer: Any) -> RequestFailedError:
        """For an answer of another form than the protocol's."""
        remedy = "check that this is the address of a completions endpoint, with its /v1 where it has one"
        return RequestFailedError(f"answered with something unexpected ({self.said(answer)})", remedy)

    def said(self, answer: Any) -> str:
        """The beginning of what a server said, in one line and without the token."""
        text = " ".join(str(answer).split()) or "nothing"
        text = text if self._token is None else text.replace(self._token, "***")
        return text if len(text) <= SAID_CHARACTERS else f"{text[:SAID_CHARACTERS]}..."

    def _refused(self, status: int, retry_after: str | None, body: str) -> RequestFailedError:
        again = status == 429 or status >= 500
        remedy = REMEDIES.get(status, "look into the server's log" if again else "change the request accordingly")
        seconds = _seconds(retry_after)
        found = f"answered with status {status} ({self.said(_message(body))})"
        if seconds > LONGEST_WAIT:
            found += f" and asks to wait {seconds:.0f} s"
        return RequestFailedError(found, remedy, again, seconds, status)

    def _persist(self, function: Callable[[Item], Result], item: Item, stop: Event) -> Result:
        """Calls `function` until it succeeds, there is no hope or no attempt left."""
        attempts = 0
        while True:
            if stop.is_set():
                raise CancelledError
            try:
                return function(item)
            except RequestFailedError as error:
                attempts += 1
                if not error.again or attempts > self.retries or error.wait > LONGEST_WAIT:
                    tried = f" in {attempts} attempts" if attempts > 1 else ""
                    raise UserError(f"{self.name} {error.found}{tried}: {error.remedy}.") from error
                longest = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempts - 1))
                # Requests that failed together must not come back together.
                seconds = max(error.wait, longest * self._random.uniform(0.5, 1.0))
            (self._sleep or stop.wait)(seconds)


def _split(url: str) -> SplitResult:
    """The parts of an address, without a closing slash and fragment."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bad port or a bad IPv6 address
        parts, good = None, False
    if parts is None or not good:
        raise UserError(f"{url} is no address of a server: write it as http://host:port/v1.")
    return parts._replace(path=parts.path.rstrip("/"), fragment="")


def _message(body: str) -> str:
    """What an error's body says: the forms of OpenAI, vLLM, TGI and FastAPI, or the text itself."""
    try:
        content = json.loads(body)
    except ValueError:
        return body
    for key in ("error", "message", "detail"):
        if isinstance(content, dict) and content.get(key):
            content = content[key]
    return content if isinstance(content, str) else json.dumps(content)


def _seconds(retry_after: str | None) -> float:
    """The seconds of a Retry-After header, which holds a number or a date; 0 without a readable one."""
    if retry_after is None:
        return 0.0
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
