"""One request as the handlers see it: who asks, for which repo, with what in the body.

Lists are answered in pages, with the address of the next one in the Link header.
"""

import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from hubq.embedded_hub.accounts import Visitor
from hubq.embedded_hub.hub import Hub
from hubq.embedded_hub.refusals import Refusal, bad_request, forbidden, sign_in_first
from hubq.embedded_hub.repositories import KINDS, Access, Repository, admit, check_write
from hubq.records.parsing import read_json
from hubq.records.vocabulary import Kind

MAX_BODY = 16 * 1024 * 1024  # of requests that are read whole; uploads are streamed instead
T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """A request, its path's parts, its visitor, and its body if it isn't a stream.

    `repository` is the one of the path; the route has admitted the visitor to it.
    """

    hub: Hub
    request: Request
    path: Mapping[str, str]
    visitor: Visitor
    body: bytes = b""
    repository: Repository | None = None

    @property
    def base(self) -> str:
        """The address of the hub in the words of the client, since it compares hosts."""
        return str(self.request.base_url).rstrip("/")

    @property
    def query(self) -> Mapping[str, str]:
        """The query's parameters."""
        return self.request.query_params

    @property
    def kind(self) -> Kind:
        """The kind of repo that the path speaks of."""
        return next(kind for kind in KINDS if kind + "s" == self.path.get("kind", "models"))

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object, or refuse it."""
        try:
            value = read_json(self.body or b"{}")
        except ValueError as error:
            raise bad_request(f"The body is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise bad_request("The body is not a JSON object")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string of the JSON body, or refuse a body without it."""
        value = self.json().get(key, default)
        if not isinstance(value, str):
            raise bad_request(f"{key!r} must be a string")
        return value

    def optional_text(self, key: str) -> str | None:
        """Return a string of the JSON body, None when it is missing or null, or refuse."""
        return None if self.json().get(key) is None else self.text(key)

    def number(self, key: str, default: int | None = None) -> int:
        """Return a whole number of the JSON body, from 0 on, or refuse a body without it."""
        value = self.json().get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise bad_request(f"{key!r} must be a whole number")
        return value

    def rows(self, key: str) -> list[dict[str, Any]]:
        """Return a list of objects of the JSON body, empty when it is missing, or refuse."""
        value = self.json().get(key) or []
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise bad_request(f"{key!r} must be a list of objects")
        return value

    def user(self) -> str:
        """Return the visitor's name, or refuse an anonymous one."""
        if self.visitor.name is None:
            raise sign_in_first()
        return self.visitor.name

    def named(self, kind: Kind, namespace: str, name: str, access: Access) -> Repository:
        """Find a repo to which the visitor has that access, or refuse."""
        repositories = self.hub.repositories
        found = repositories.find(kind, namespace, name.removesuffix(".git"))
        return admit(repositories, found, self.visitor, access)

    def admitted(self, access: Access) -> "Call":
        """Return the call with the repo of its path, or refuse a visitor without that access."""
        if access in (Access.OPEN, Access.NO_REPO):
            return self
        repo = self.named(self.kind, self.path["namespace"], self.path["name"], access)
        return replace(self, repository=repo)

    def repo(self) -> Repository:
        """Return the repo of the path, to which the route has admitted the visitor."""
        assert self.repository is not None, "the route names no repo"
        return self.repository

    def may_download(self) -> bool:
        """Tell whether the visitor may have the content of the repo's files."""
        return self.hub.repositories.admits(self.repo(), self.visitor)

    def check_write(self, namespace: str, what: str) -> None:
        """Refuse a visitor who may not write to a namespace."""
        check_write(self.visitor, namespace, what)

    def check_contribute(self) -> None:
        """Refuse a visitor who may not even open a pull request."""
        self.user()
        if self.visitor.role != "write":
            raise forbidden("This token is read-only")
        if self.visitor.only not in (None, self.repo().address):
            raise forbidden("This token is for another repo")


async def read_body(request: Request, limit: int = MAX_BODY) -> bytes:
    """Read a request's body whole, or refuse one that is too long."""
    body = bytearray()
    async for chunk in stream_body(request, limit):
        body += chunk
    return bytes(body)


async def stream_body(request: Request, limit: int) -> AsyncIterator[bytes]:
    """Yield a request's body in pieces, or refuse one that is too long or breaks off."""
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > limit:
                raise Refusal(413, f"The body is longer than {limit} bytes")
            if chunk:
                yield chunk
    except ClientDisconnect as error:
        raise bad_request("The upload was interrupted") from error


def find_visitor(hub: Hub, request: Request) -> Visitor:
    """Identify the visitor by the request's token, or refuse a bad one."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return hub.accounts.identify(value.strip())
    if scheme.lower() == "basic" and _safe_from_forms(request):
        return hub.accounts.identify(_password(value))
    return Visitor()


def _safe_from_forms(request: Request) -> bool:
    """Tell whether a foreign page could not have made a browser send this request.

    A browser adds Basic credentials by itself, so they count only for what changes nothing and
    for what git sends, whose media types no form can have.
    """
    media_type = request.headers.get("Content-Type", "")
    from_git = media_type.startswith(("application/x-git-", "application/vnd.git-lfs+json"))
    return request.method in ("GET", "HEAD") or from_git


def _password(credentials: str) -> str:
    """Take the token out of the user:password that git sends."""
    try:
        return base64.b64decode(credentials).decode().partition(":")[2]
    except ValueError:  # of which binascii's own error is a kind
        return ""


def page(
    call: Call, items: Sequence[T], render: Callable[[T], Any | None], *, size: int
) -> JSONResponse:
    """Render the page of a list that the query's cursor asks for, and no more than that.

    What `render` has nothing to say about is left out, and the page goes on behind it.
    """
    position, limit = _begin(call, size)
    rendered: list[Any] = []
    while position < len(items) and len(rendered) < limit:
        answer = render(items[position])
        rendered += [] if answer is None else [answer]
        position += 1
    headers = {}
    if position < len(items):
        following = call.request.url.include_query_params(cursor=position)
        path = call.request.scope["raw_path"].decode("latin-1")
        headers["Link"] = f'<{call.base}{path}?{following.query}>; rel="next"'
    return JSONResponse(rendered, headers=headers)


def window(call: Call, items: Sequence[T], *, size: int) -> Sequence[T]:
    """Return the items of the page, for what is cheaper to find out about all of them at once."""
    start, limit = _begin(call, size)
    return items[start : start + limit]


def _begin(call: Call, size: int) -> tuple[int, int]:
    return whole_number(call, "cursor", 0), min(size, max(1, whole_number(call, "limit", size)))


def whole_number(call: Call, name: str, default: int) -> int:
    """Return a number of the query, or refuse what is none."""
    value = call.query.get(name, str(default))
    if not value.isdecimal() or len(value) > 12:
        raise bad_request(f"{name!r} must be a number")
    return int(value)
