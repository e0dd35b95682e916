"""What passes by itself: which failures of the Hub are worth another try, and after how long."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")

TRANSIENT = frozenset({408, 409, 429, 500, 502, 503, 504})  # 409: another commit is in progress
# "api";r=0;t=55: nothing remains of the quota, which starts anew in 55 seconds.
EXHAUSTED = re.compile(r"r\s*=\s*0\s*;\s*t\s*=\s*([0-9]{1,9})")
LATER = re.compile(r"[0-9]{1,9}")
CONNECTING = 3  # tries; nobody wants to wait long to hear that there is no network


@dataclass(frozen=True)
class RetryPolicy:
    """How often to try, and how long to wait in between."""

    tries: int = 6
    first: float = 1.0  # seconds; doubled after each try
    longest: float = 300.0  # seconds; a Hub that wants more is taken at its word

    def call(self, action: Callable[[], Result]) -> Result:
        """Run an action that may safely be repeated until it works or no try is left."""
        for attempt in range(1, self.tries):
            try:
                return action()
            except failures() as error:
                hopeless = attempt >= CONNECTING and is_disconnected(error)
                if hopeless or not self.rest(error, attempt):
                    raise
        return action()

    def rest(self, error: BaseException, attempt: int) -> bool:
        """Wait before try number attempt + 1; tell whether there is to be one."""
        wait = asked_to_wait(error) or min(self.first * 2 ** (attempt - 1), 30.0)
        if attempt >= self.tries or not is_transient(error) or wait > self.longest:
            return False
        time.sleep(wait)
        return True


def failures() -> tuple[type[Exception], ...]:
    """Name the exceptions in which huggingface_hub and hf_xet wrap what the Hub and disk did."""
    import httpx2

    return (httpx2.HTTPError, httpx2.InvalidURL, OSError, RuntimeError, ValueError)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what caused it, outermost first."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an exception reports, if it is about an answer at all."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return int(error.response.status_code)
    if isinstance(error, ConnectionError):  # hf_xet has the status only in its text
        found = re.search(r"\((\d{3}) ", str(error))
        return int(found.group(1)) if found else None
    return None


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may work in a moment."""
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    for link in chain(error):
        if isinstance(link, OfflineModeIsEnabled):
            return False
        if (status := status_of(link)) is not None:
            return status in TRANSIENT
        if isinstance(link, httpx2.TransportError | ConnectionError):
            return True
    return False


def is_disconnected(error: BaseException) -> bool:
    """Tell whether not even a connection came about, or nothing came over it."""
    import httpx2

    none = (httpx2.ConnectError, httpx2.TimeoutException)
    return any(isinstance(link, none) for link in chain(error))


def asked_to_wait(error: BaseException) -> float | None:
    """Return the seconds that the Hub asks to wait, from RateLimit or Retry-After."""
    from huggingface_hub.errors import HfHubHTTPError

    for link in chain(error):
        if isinstance(link, HfHubHTTPError):
            headers = link.response.headers
            exhausted = EXHAUSTED.search(headers.get("RateLimit", ""))
            if link.response.status_code == 429 and exhausted:
                return float(exhausted.group(1)) + 1  # the Hub counts whole seconds
            later = headers.get("Retry-After", "")
            return float(later) if LATER.fullmatch(later) else None
    return None
