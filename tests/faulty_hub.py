"""A hub whose answers fail, get lost or change on the way, when told to.

with faulty_hub(tmp_path) as hub:
    hub.faults.add(drop("POST", "/commit/", after=True))  # it lands, the answer is lost
    ...
    assert hub.faults.requests("POST", "/commit/") == [200]
"""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, Unpack

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hubq.embedded_hub.hub import FIRST_USER, Hub


@dataclass
class Fault:
    """What goes wrong with which of the requests whose method and raw path match.

    `status` None drops the connection; `cut` drops it after so many bytes of the answer's body;
    `flip` changes the byte of the body at that offset, and nothing else; `spoil` that of the
    request's body, which `stop` ends after so many bytes. `meanwhile` is called before the hub sees
    the request.
    """

    method: str
    path: str
    nth: int = 1
    times: int = 1
    after: bool = False
    status: int | None = None
    retry_after: int | None = None
    cut: int | None = None
    flip: int | None = None
    spoil: int | None = None
    stop: int | None = None
    meanwhile: Callable[[], object] | None = None
    seen: int = field(default=0, init=False)

    def strikes(self, method: str, path: str) -> bool:
        """Count a request that matches; tell whether it is one that fails."""
        if not (re.fullmatch(self.method, method) and re.search(self.path, path)):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class Which(TypedDict, total=False):
    """Which of the matching requests a fault strikes, and whether the hub works on them first."""

    nth: int
    times: int
    after: bool


def refuse(
    method: str,
    path: str,
    status: int = 503,
    *,
    retry_after: int | None = None,
    **which: Unpack[Which],
) -> Fault:
    """Answer with an error: the `nth` match and those that follow, `times` in all.

    With `after=True` the hub does its work first, and only its answer is replaced.
    """
    return Fault(method, path, status=status, retry_after=retry_after, **which)


def drop(method: str, path: str, **which: Unpack[Which]) -> Fault:
    """Drop the connection: before the hub sees the request or `after` it did its work."""
    return Fault(method, path, **which)


def cut(method: str, path: str, sent: int, **which: Unpack[Which]) -> Fault:
    """Drop the connection after so many bytes of the answer's body."""
    return Fault(method, path, cut=sent, **which)


def flip(method: str, path: str, offset: int = 0, **which: Unpack[Which]) -> Fault:
    """Change one byte of the answer's body."""
    return Fault(method, path, flip=offset, **which)


def spoil(method: str, path: str, offset: int, **which: Unpack[Which]) -> Fault:
    """Change one byte of the request's body."""
    return Fault(method, path, spoil=offset, **which)


def stop(method: str, path: str, received: int, **which: Unpack[Which]) -> Fault:
    """Let the connection break after so many bytes of the request's body."""
    return Fault(method, path, stop=received, **which)


def meanwhile(
    method: str, path: str, action: Callable[[], object], **which: Unpack[Which]
) -> Fault:
    """Do something, which may ask the hub too, before it sees the request."""
    return Fault(method, path, meanwhile=action, **which)


@dataclass
class Asked:
    """A request that came, and the status with which the hub, not a fault, answered it."""

    method: str
    path: str
    status: int | None = None


class Faults:
    """The faults to come and the requests that were."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._log: list[Asked] = []

    def add(self, *faults: Fault) -> None:
        """Plan faults; each counts the requests from now on."""
        self._faults += faults

    def clear(self) -> None:
        """Forget all faults and all requests."""
        self._faults.clear()
        self._log.clear()

    def requests(self, method: str = ".*", path: str = "") -> list[int | None]:
        """List the statuses of the hub's answers to matching requests; None if it gave none."""
        return [
            asked.status
            for asked in list(self._log)
            if re.fullmatch(method, asked.method) and re.search(path, asked.path)
        ]

    def strike(self, method: str, path: str) -> Fault | None:
        """Return the first fault that strikes a request; all of them count it."""
        struck = [fault for fault in list(self._faults) if fault.strikes(method, path)]
        return struck[0] if struck else None

    def note(self, method: str, path: str) -> "Asked":
        """Remember a request; whoever answers it fills in the status."""
        asked = Asked(method, path)
        self._log.append(asked)
        return asked


class FaultyApp:
    """The middleware that lets the faults happen."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self.app = app
        self.faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, path = scope["method"], scope["raw_path"].decode("latin-1")
        asked = self.faults.note(method, path)
        fault = self.faults.strike(method, path)
        if fault is not None and fault.meanwhile is not None:
            await run_in_threadpool(fault.meanwhile)
            fault = None
        if fault is not None and fault.spoil is not None:
            receive, fault = _Spoilt(receive, fault.spoil), None
        if fault is not None and fault.stop is not None:
            receive = _Stopped(receive, fault.stop)
            with suppress(ClientDisconnect):
                await self.app(scope, receive, _Watched(asked, _swallow))
            await _abort(send)
            return
        if fault is None or fault.cut is not None or fault.flip is not None:
            await self.app(scope, receive, _Watched(asked, send, fault))
            return
        if fault.after:
            await self.app(scope, receive, _Watched(asked, _swallow))
        if fault.status is None:
            await _abort(send)
            return
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        answer = JSONResponse({"error": "a fault of the test"}, fault.status, headers)
        await answer(scope, receive, send)


class _Watched:
    """Notes the status of an answer and passes it on, perhaps with one byte changed, or cut off."""

    def __init__(self, asked: Asked, send: Send, fault: Fault | None = None) -> None:
        self.asked = asked
        self.send = send
        self.fault = fault
        self.sent = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.asked.status = message["status"]
        elif self.fault is not None:
            body = bytearray(message.get("body", b""))
            start, self.sent = self.sent, self.sent + len(body)
            if self.fault.flip is not None and start <= self.fault.flip < self.sent:
                body[self.fault.flip - start] ^= 0xFF
            if self.fault.cut is not None and self.sent > self.fault.cut:
                await _abort(self.send)
                return
            message = {**message, "body": bytes(body)}
        await self.send(message)


class _Spoilt:
    """Passes a request's body on with one byte changed."""

    def __init__(self, receive: Receive, offset: int) -> None:
        self.receive = receive
        self.left = offset

    async def __call__(self) -> Message:
        message = await self.receive()
        body = bytearray(message.get("body", b""))
        if 0 <= self.left < len(body):
            body[self.left] ^= 1  # a letter stays a letter
        self.left -= len(body)
        return {**message, "body": bytes(body)} if "body" in message else message


class _Stopped:
    """Passes the beginning of a request's body on, then that the client has gone."""

    def __init__(self, receive: Receive, size: int) -> None:
        self.receive = receive
        self.left = size

    async def __call__(self) -> Message:
        if self.left <= 0:
            return {"type": "http.disconnect"}
        message = await self.receive()
        body = message.get("body", b"")[: self.left]
        self.left -= len(body) or self.left
        return {**message, "body": body, "more_body": True} if "body" in message else message


async def _swallow(message: Message) -> None:
    """Keep an answer from the client."""


async def _abort(send: Send) -> None:
    """Reset the connection as a network does; an exception would become a tidy 500."""
    cycle: Any = getattr(send, "__self__", None)
    assert cycle is not None, "faults need uvicorn right below them"
    cycle.transport.abort()
    # Uvicorn complains of a missing answer unless it has noticed by then that nobody listens.
    await asyncio.sleep(0.01)


@dataclass(frozen=True)
class FaultyHub:
    """Where the hub is, a token for it, and the faults to plan."""

    endpoint: str
    token: str
    root: Path
    faults: Faults


@contextmanager
def faulty_hub(
    root: Path, user: str = FIRST_USER, org: str | None = None, *, wait: bool = True
) -> Iterator[FaultyHub]:
    """Serve a hub from a thread of this process, with faults to plan.

    A server takes a fifth of a second to end, nearly all of it asleep; without `wait` it does so
    beside what comes next, so its root can't be served again at once.
    """
    from hubq.embedded_hub.app import create_app
    from hubq.embedded_hub.serving import make_server, run

    faults = Faults()
    app = create_app(root)
    hub: Hub = app.state.hub
    server = make_server(FaultyApp(app, faults))
    accounts = hub.accounts
    accounts.add_user(user)
    if org is not None:
        accounts.add_org(org, {user: "write"})
    endpoints: list[str] = []
    thread = threading.Thread(target=run, args=(server, hub, "127.0.0.1", 0, endpoints.append))
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        token = accounts.mint(user, "write", None)
        yield FaultyHub(endpoints[0], token, root, faults)
    finally:
        server.should_exit = True
        if wait:
            thread.join()
