"""What crosses between hubq and a Hub: tokens only to their own Hub, answers only in their form.

huggingface_hub sends all its requests through one client of httpx2; `guard` gives it this one. So
what holds here holds for every call of hubq and of the libraries below it, whatever they follow:

- A token goes to the Hub that it is for. A redirect or a next page elsewhere goes without it.
- Headers that become paths and numbers in the cache have their form, or the answer is refused.
- An answer in JSON is read to its end here, checked, and reduced to what `answers.py` names.
- Nothing is without bounds: the bytes of an answer, its time, its pages, the wait it asks for.
- Loopback is never reached through a proxy.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urljoin

import httpx2
from pydantic import TypeAdapter

from hubq.client.answer_forms import form_of, reduced
from hubq.client.answers import ImplausibleError
from hubq.client.credentials import go_direct_to_loopback, origin, proxy_of, token_for
from hubq.client.deadlines import Deadline, hurry
from hubq.records.vocabulary import PUBLIC_HUB

HOME = "x-hubq-home"  # the address of the Hub that a request's token is for; never sent
# Forms of the headers that huggingface_hub makes paths, addresses and numbers of.
COMMIT = re.compile(r"[0-9a-f]{40}")
NUMBER = re.compile(r"[0-9]{1,15}")
FORMS = {
    "x-repo-commit": COMMIT,
    "x-linked-size": NUMBER,
    "x-linked-etag": re.compile(r'(?:W/)?"?[0-9A-Za-z_-]{1,128}"?'),  # a name in the cache
    "x-xet-hash": re.compile(r"[0-9a-fA-F]{64}"),
    "x-xet-cas-url": re.compile(r"https?://[!-~]+"),  # hf_xet takes folders of this machine too
    "x-xet-token-expiration": NUMBER,
    "content-encoding": re.compile("identity"),  # as asked for: what is packed has no size
}
OF_HEAD = {"etag": FORMS["x-linked-etag"]}
ADVICE = "If this is the right Hub, check for a proxy or a network login page in between"
# After a 409 with these words huggingface_hub asks again at once, for ever.
CONFLICT = b"another conflicting operation is in progress"
LONGEST_LINK = 8000  # characters
PINNED = re.compile(r"/resolve/([0-9a-f]{40})/")
ASKS_TO_WAIT = re.compile(r"t\s*=\s*(\d+)")
COMMITS = re.compile(r"/commit/|/git-receive-pack\Z")
RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})")


@dataclass(frozen=True)
class Limits:
    """How much and how long an answer may be."""

    connecting: float = 10.0  # seconds
    silence: float = 60.0  # seconds without a byte
    working: float = 300.0  # seconds that a commit may take before a byte comes
    slowest: float = 1000.0  # bytes a second, on average over `silence`
    answer: int = 64_000_000  # bytes of JSON
    pages: int = 1000  # of a listing
    waiting: int = 300  # seconds that an answer may ask to wait


class Border(httpx2.BaseTransport):
    """Sends requests and lets only answers through that are what they should be."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._ways: dict[str | None, httpx2.HTTPTransport] = {}  # by proxy
        self._deadline = Deadline()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; raise ImplausibleError for an answer that no honest Hub gives."""
        home = request.headers.get(HOME)
        outgoing = self._outgoing(request, home)
        self._deadline.begin(outgoing.extensions["timeout"]["read"])
        try:
            response = self._way(request).handle_request(outgoing)
        finally:
            self._deadline.end()
        try:
            self._check(request, response)
            form = form_of(request.method, request.url.path) if home else None
            if form is not None and (answer := self._answer(request, response, form)):
                return answer
        except BaseException:
            response.close()
            raise
        response.stream = _Bounded(request, response, self._most(request), self.limits)
        return response

    def close(self) -> None:
        """Close all connections."""
        for way in self._ways.values():
            way.close()

    def _way(self, request: httpx2.Request) -> httpx2.HTTPTransport:
        proxy = proxy_of(str(request.url))
        if proxy not in self._ways:
            self._ways[proxy] = hurry(httpx2.HTTPTransport(proxy=proxy), self._deadline)
        return self._ways[proxy]

    def _outgoing(self, request: httpx2.Request, home: str | None) -> httpx2.Request:
        """Return what is sent: without a token that is for another Hub, with times to wait."""
        headers = request.headers.copy()
        headers.pop(HOME, None)
        headers["accept-encoding"] = "identity"
        if "authorization" in headers and not _belongs(headers["authorization"], request, home):
            del headers["authorization"]
        commits = request.method == "POST" and COMMITS.search(request.url.path)
        wanted = {
            "connect": self.limits.connecting,
            "read": self.limits.working if commits else self.limits.silence,
            "write": self.limits.silence,
        }
        given = request.extensions.get("timeout", {})
        times = {name: given.get(name) or most for name, most in wanted.items()}
        return httpx2.Request(
            request.method,
            request.url,
            headers=headers,
            stream=request.stream,
            extensions={**request.extensions, "timeout": {**given, **times}},
        )

    def _check(self, request: httpx2.Request, response: httpx2.Response) -> None:
        """Refuse headers that are not what they should be; number the pages of a listing."""
        forms = FORMS | (OF_HEAD if request.method == "HEAD" else {})
        for name, form in forms.items():
            for value in response.headers.get_list(name):
                if not form.fullmatch(value):
                    raise _implausible(request, f"sends {value[:80]!a} as {name}")
        pinned = PINNED.search(request.url.path)
        commit = response.headers.get("x-repo-commit")
        if pinned and commit and pinned[1] != commit:
            raise _implausible(
                request, f"answers with commit {commit[:12]} instead of {pinned[1][:12]}"
            )
        self._check_wait(request, response)
        if "location" in response.headers:
            _require_address(request, response.headers["location"])
        self._check_links(request, response)

    def _check_wait(self, request: httpx2.Request, response: httpx2.Response) -> None:
        """Refuse to wait for hours: huggingface_hub would, in silence."""
        later = response.headers.get("retry-after", "")
        quota = ASKS_TO_WAIT.search(response.headers.get("ratelimit", ""))
        asked = later if NUMBER.fullmatch(later) else quota[1] if quota else "0"
        if response.status_code >= 400 and int(asked[:9]) > self.limits.waiting:
            raise _implausible(request, f"asks to wait. Try again in {asked[:9]} seconds")
        if later and not NUMBER.fullmatch(later):
            del response.headers["retry-after"]  # a date, or nonsense

    def _check_links(self, request: httpx2.Request, response: httpx2.Response) -> None:
        """Keep links on this Hub, and count the pages in a part of the address that isn't sent."""
        here = str(request.url.copy_with(fragment=None))
        if next_page := response.links.get("next"):
            target = _require_address(request, next_page.get("url", ""))
            page = int(request.url.fragment) if NUMBER.fullmatch(request.url.fragment) else 1
            if origin(target) != origin(here):
                raise _implausible(request, f"continues its list at another host, {target[:80]!a}")
            if page >= self.limits.pages or target == here:
                raise _implausible(request, "lists pages endlessly")
            response.headers["link"] = f'<{target}#{page + 1}>; rel="next"'
        tickets = [link["url"] for name, link in response.links.items() if name == "xet-auth"]
        for ticket in [*tickets, *response.headers.get_list("x-xet-refresh-route")]:
            # With the token, and not by way of this client; of the Hub a mirror's address is made.
            if origin(_require_address(request, ticket)) not in (origin(here), origin(PUBLIC_HUB)):
                raise _implausible(request, f"asks for the token at another host, {ticket[:80]!a}")

    def _answer(
        self, request: httpx2.Request, response: httpx2.Response, form: TypeAdapter[Any]
    ) -> httpx2.Response | None:
        """Read an answer in JSON to its end and return what its form names of it.

        None for an error, which has no form but where huggingface_hub reads one from it all the
        same: of a repo that exists its address, and what is wrong with a card.
        """
        path, status = request.url.path, response.status_code
        taken = path.endswith("/api/repos/create") and status == 409
        judged = path.endswith("/api/validate-yaml")
        if not (response.is_success or taken or judged):
            return None
        if judged and status not in (200, 400):
            return _in_place_of(response, status, b"{}")
        body = b"".join(_Bounded(request, response, self.limits.answer, self.limits))
        try:
            return _in_place_of(response, status, reduced(body, form))
        except ImplausibleError as error:
            if taken:
                return _in_place_of(response, 503 if CONFLICT in body else status, body)
            raise _implausible(request, str(error)) from None

    def _most(self, request: httpx2.Request) -> int | None:
        """Return how many bytes an answer may have; None where the caller counts them."""
        if asked := RANGE.fullmatch(request.headers.get("range", "")):
            return int(asked[2]) - int(asked[1]) + 1
        is_whole = "/api/" in request.url.path or COMMITS.search(request.url.path)
        return self.limits.answer if is_whole else None


class _Bounded(httpx2.SyncByteStream):
    """The body of an answer, ended with ImplausibleError where it grows too long or too slowly."""

    def __init__(
        self,
        request: httpx2.Request,
        response: httpx2.Response,
        most: int | None,
        limits: Limits,
    ) -> None:
        assert isinstance(response.stream, httpx2.SyncByteStream)
        self._request, self._stream = request, response.stream
        self._most, self._limits = most, limits

    def __iter__(self) -> Iterator[bytes]:
        total, recent, waited = 0, 0, 0.0
        begin = time.monotonic()
        for chunk in self._stream:
            waited += time.monotonic() - begin
            total, recent = total + len(chunk), recent + len(chunk)
            if self._most is not None and total > self._most:
                raise _implausible(self._request, f"sends more than {self._most:,} bytes")
            if waited >= self._limits.silence:
                if recent < self._limits.slowest * waited:
                    raise _implausible(self._request, f"sends {recent / waited:.0f} bytes a second")
                recent, waited = 0, 0.0
            yield chunk
            begin = time.monotonic()  # what the reader takes is not the Hub's fault

    def close(self) -> None:
        self._stream.close()


def _in_place_of(response: httpx2.Response, status: int, body: bytes) -> httpx2.Response:
    """Return an answer with another body."""
    response.close()
    kept = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name not in ("content-length", "transfer-encoding")
    ]
    return httpx2.Response(status, headers=kept, content=body, extensions=response.extensions)


def _implausible(request: httpx2.Request, what: str) -> ImplausibleError:
    url = request.url.copy_with(fragment=None, query=None)
    return ImplausibleError(f"{url} {what}.\nNothing from it was used. {ADVICE}")


def _belongs(authorization: str, request: httpx2.Request, home: str | None) -> bool:
    """Tell whether a token may go where a request goes."""
    there = str(request.url)
    if home is not None:
        return origin(there) == origin(home)
    from huggingface_hub import get_token

    # A library's request. A token that isn't the user's own was given to it by whoever called it.
    own = get_token()
    return own is None or authorization != f"Bearer {own}" or token_for(there) == own


def _require_address(request: httpx2.Request, link: str) -> str:
    """Return the absolute address of a link; raise ImplausibleError for what HTTP can't reach."""
    try:
        target = urljoin(str(request.url.copy_with(fragment=None)), link)
        url = httpx2.URL(target)
        sound = url.scheme in ("http", "https") and bool(url.host) and len(target) <= LONGEST_LINK
    except (httpx2.InvalidURL, ValueError):
        sound = False
    if not sound:
        raise _implausible(request, f"links to {link[:80]!a}, which is not an address")
    return str(url.copy_with(fragment=None))


def make_client(limits: Limits | None = None) -> httpx2.Client:
    """Make the client that huggingface_hub is to use."""
    from huggingface_hub.utils._http import hf_request_event_hook

    return httpx2.Client(
        transport=Border(limits or Limits()),
        event_hooks={"request": [hf_request_event_hook]},
        follow_redirects=True,
        timeout=None,
    )


@cache
def guard() -> None:
    """Let huggingface_hub, and all that calls it in this process, ask Hubs through the border."""
    from huggingface_hub import set_client_factory

    go_direct_to_loopback()  # for hf_xet, which has connections of its own
    set_client_factory(make_client)
