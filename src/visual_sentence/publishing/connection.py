"""Requests to the Hub that wait with patience, end in time, and fail in one line that tells no secret.

huggingface_hub tries some requests again and others not, waits without an end where a server asks for that, and says
nothing meanwhile. Here its client raises at the first sign of trouble instead, and one loop around the whole step
waits, says so, and begins the step anew; steps are such that this does no harm.
"""

import re
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from huggingface_hub import constants, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import _http  # which factory is set is told nowhere else

from ..errors import UserError

T = TypeVar("T")
# httpx's, or that of its successor, which newer versions of huggingface_hub stand on.
HTTPError = next(one for one in HfHubHTTPError.__mro__ if one.__name__ == "HTTPError")
BUSY = (408, 429, 500, 502, 503, 504)
REFUSED, FORBIDDEN, ABSENT, TOO_MANY = 401, 403, 404, 429
CONFLICTS = (409, 412)
IN_PROGRESS = "conflicting operation is in progress"
SHOWN = 300
RATE_LIMIT = re.compile(r'"\w+"\s*;\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)')


@dataclass(frozen=True)
class Patience:
    """How long to go on.

    Args:
        tries: How often a step is begun at most.
        timeout: Seconds without any answer after which a request is given up.
        first_wait: Seconds before the second try, twice as many before each further one, where the server names none.
        longest_wait: Seconds; a server that asks for more is not waited for.
    """

    tries: int = 5
    timeout: float = 120
    first_wait: float = 2
    longest_wait: float = 300


class Interruption(Exception):  # noqa: N818  (it may pass)
    """Something that may be otherwise in a while.

    Args:
        said: What happened.
        wait: Seconds that the server asks for; None where it names none.
    """

    def __init__(self, said: str, wait: float | None = None):
        super().__init__(said)
        self.said, self.wait = said, wait


class Watch:
    """Looks at every request of huggingface_hub and at every answer.

    Args:
        timeout: Seconds without any answer after which a request is given up.

    Attributes:
        answered: Whether there was any answer.
        unanswered: "METHOD url" of requests that have none yet.
        published: The commit that was made, if any.
    """

    def __init__(self, timeout: float):
        self.timeout = timeout
        self.answered = False
        self.unanswered: set[str] = set()
        self.published: str | None = None

    def on_request(self, request: Any) -> None:
        """Limits the time of a request; of one that was begun before and never answered, says so.

        Raises:
            Interruption: If the same request had no answer before.
        """
        line = f"{request.method} {request.url}"
        if line in self.unanswered:
            self.unanswered.discard(line)
            raise Interruption(f"The Hub broke the connection off, or gave no answer for {self.timeout:g} s")
        self.unanswered.add(line)
        # here and not at the client: some calls ask for no limit at all
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), self.timeout)

    def on_response(self, response: Any) -> None:
        """Takes note of an answer.

        Raises:
            Interruption: If it asks to come again later.
        """
        self.answered = True
        self.unanswered.discard(f"{response.request.method} {response.request.url}")
        status = response.status_code
        if status == CONFLICTS[0]:
            response.read()
            if IN_PROGRESS in response.text:  # which huggingface_hub would ask again at once, and without an end
                raise Interruption(f"The Hub is busy with another request of yours ({status})")
        if status in BUSY:
            what = "asks for fewer requests" if status == TOO_MANY else "has trouble of its own"
            raise Interruption(f"The Hub {what} ({status})", _asked_wait(response.headers))

    @property
    def outcome(self) -> str:
        """What is known of the repository after a failure."""
        if self.published is not None:
            return f"{self.published} was published, but could not be looked at"
        if any("/commit/" in line for line in self.unanswered):
            return "whether the commit arrived is not known, so look at the repository"
        return "nothing was published"

    @contextmanager
    def watching(self) -> Generator[None, None, None]:
        """Looks on while the block runs."""
        self.unanswered.clear()
        before = _http._GLOBAL_CLIENT_FACTORY

        def make() -> Any:
            client = before()
            hooks = client.event_hooks
            client.event_hooks = {
                "request": [*hooks["request"], self.on_request],
                "response": [*hooks["response"], self.on_response],
            }
            return client

        set_client_factory(make)
        try:
            yield
        finally:
            set_client_factory(before)


def persist(step: Callable[[], T], patience: Patience, watch: Watch, say: Callable[[str], None]) -> T:
    """Does a step, again and again if need be.

    Args:
        step: Talks to the Hub; may be begun anew at any time.
        patience: How long to go on.
        watch: Looks on.
        say: Is told when there is something to wait for.

    Raises:
        UserError: If patience ends, or the Hub cannot be reached at all.
    """
    for attempt in range(1, patience.tries + 1):
        try:
            with watch.watching():
                return step()
        except Exception as error:
            found = interruption(error, patience.timeout)
            if found is None:
                raise
            if not watch.answered and _is_named(error, "ConnectError"):
                raise UserError(
                    f"{constants.ENDPOINT} cannot be reached ({_one_line(error)}): check the network."
                ) from None
            wait = patience.first_wait * 2 ** (attempt - 1) if found.wait is None else found.wait
            if wait > patience.longest_wait:
                raise UserError(
                    f"{found.said} and wants to be left alone for {wait:.0f} s, more than is waited for here; "
                    f"{watch.outcome}: try again then."
                ) from None
            if attempt == patience.tries:
                raise UserError(f"{found.said}, {attempt} times in a row; {watch.outcome}: try again later.") from None
            say(f"{found.said}: waiting {wait:.0f} s, then trying again ({attempt + 1} of {patience.tries})")
            time.sleep(wait)
    raise AssertionError("a patience of no tries")


def interruption(error: BaseException | None, timeout: float = 0) -> Interruption | None:
    """What may pass by itself, among an error and what it came from; None for errors that stay."""
    for one in causes(error):
        if isinstance(one, Interruption):
            return one
        if _is_named(one, "TimeoutException"):
            return Interruption(f"The Hub gave no answer for {timeout:g} s")
        # a LocalProtocolError is a request that cannot be sent at all
        if _is_named(one, "TransportError") and not _is_named(one, "LocalProtocolError"):
            return Interruption(f"The connection to the Hub broke off ({_one_line(one)})")
    return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from, the last first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_named(error: BaseException, name: str) -> bool:
    return any(one.__name__ == name for one in type(error).__mro__)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:SHOWN] or type(error).__name__


def _asked_wait(headers: Any) -> float | None:
    """Seconds that a server asks for, in any of the ways in which servers do."""
    if found := RATE_LIMIT.search(headers.get("ratelimit") or ""):
        return float(found[1])
    asked = (headers.get("retry-after") or "").strip()
    if asked.isdigit():
        return float(asked)
    try:
        until = parsedate_to_datetime(asked)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=timezone.utc)
    return max(0.0, (until - datetime.now(timezone.utc)).total_seconds())


def explained(error: Exception, repo_id: str, token: str | None) -> UserError | None:
    """One line for what the Hub, or the way to it, refuses.

    Args:
        error: What huggingface_hub raised.
        repo_id: What was asked for.
        token: What must not be told, in case that somebody repeats it.

    Returns:
        The error to raise; None for one that is not the Hub's.
    """
    if isinstance(error, UserError):
        return UserError(without(str(error), token))
    if isinstance(error, OfflineModeIsEnabled):
        return UserError("HF_HUB_OFFLINE is set, so the Hub is not asked for anything: unset it to upload.")
    if not isinstance(error, (HTTPError, OSError, ValueError, RuntimeError)):
        return None
    if isinstance(error, RuntimeError):  # of an upload, which only names the file: it came from what the server said
        told: BaseException = next((one for one in causes(error) if getattr(one, "response", None) is not None), error)
    else:
        told = error
    status = getattr(getattr(told, "response", None), "status_code", None)
    said = without(_one_line_of_server(told), token)
    if status == REFUSED:
        return UserError(f"The Hub does not know the token (401: {said}): log in again with `hf auth login`.")
    if status == FORBIDDEN:
        return UserError(
            f"The token may not write to {repo_id} (403: {said}): take one with the right to write there, or another "
            "--repo-id."
        )
    if status in CONFLICTS:
        return UserError(
            f"{repo_id} was changed by somebody else meanwhile ({status}: {said}): look at what is there, then push "
            "again."
        )
    if status == ABSENT:
        return UserError(f"{repo_id} is not there, or the token may not see it (404: {said}): check --repo-id.")
    if status is not None:
        return UserError(f"The Hub refuses {repo_id} ({status}: {said}).")
    return UserError(f"{repo_id} could not be uploaded ({said}).")


def safe(error: Exception, repo_id: str, token: str | None) -> Exception:
    """What to raise in place of an error: a line that explains it, or itself if nothing in its traceback is the token.

    Args:
        error: What was raised.
        repo_id: What was asked for.
        token: What must not be told.
    """
    line = explained(error, repo_id, token)
    if line is None and token and token in "".join(traceback.format_exception(error)):
        return UserError(without(f"{type(error).__name__}: {_one_line(error)}", token))
    return error if line is None else line


def _one_line_of_server(error: BaseException) -> str:
    return " ".join((getattr(error, "server_message", None) or str(error)).split())[:SHOWN]


def without(text: str, token: str | None) -> str:
    """A text without the token."""
    return text.replace(token, "(the token)") if token else text


__all__ = ["Interruption", "Patience", "Watch", "explained", "interruption", "persist", "safe", "without"]
