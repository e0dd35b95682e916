"""Running a hub: one server for a root at a time, and a note by which others find it.

As a program (`python -m hubq.embedded_hub.serving ROOT`) it ends when its parent's pipe closes.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import ProxyHandler, build_opener

from starlette.types import ASGIApp

from hubq.embedded_hub.hub import LOOPBACK, Hub
from hubq.errors import UserError

if TYPE_CHECKING:
    import uvicorn

NOTE = "running.json"
PARTS_LIFE = 24 * 3600.0  # seconds; until then the client of an upload in parts may go on


@dataclass(frozen=True)
class Running:
    """A server as its note describes it: no secret is in it."""

    pid: int
    endpoint: str
    instance: str


def serve(
    root: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ready: Callable[[str], None] | None = None,
    allow_remote: bool = False,
) -> None:
    """Serve the hub in a folder until Ctrl-C or SIGTERM, then return; port 0 takes a free one.

    Raises UserError when another process serves the folder, the port is taken, or the host is
    not loopback and that was not allowed.
    """
    # A client that only looks for a running server needs neither the routes nor uvicorn.
    from hubq.embedded_hub.app import create_app

    if host not in LOOPBACK and not allow_remote:
        raise UserError(
            f"The hub listens on loopback only, not on {host}: it has no TLS and no rate limits. "
            "Add --allow-remote to let other machines connect."
        )
    app = create_app(root, hosts=("*",) if allow_remote else LOOPBACK)
    run(make_server(app), app.state.hub, host, port, ready)


def serve_for_parent(root: Path) -> None:
    """Serve the hub in a folder on a free port until standard input ends."""
    from hubq.embedded_hub.app import create_app

    app = create_app(root)
    server = make_server(app)

    def watch() -> None:
        # The pipe closes when the parent is done and also when it is killed.
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=watch, daemon=True).start()
    run(server, app.state.hub, "127.0.0.1", 0)


def make_server(app: ASGIApp) -> "uvicorn.Server":
    """Make the server of an application, not yet listening."""
    import uvicorn

    # No access log: addresses of downloads carry signatures.
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)


def run(
    server: "uvicorn.Server",
    hub: Hub,
    host: str,
    port: int,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Let a server serve a hub: claim its root, listen, leave the note, clean up at the end.

    What the server calls may be more than the hub's own application, such as a wrapper of it.
    """
    with closing(hub.database), _claim(hub.root), _listen(host, port) as listener:
        _sweep(hub)
        endpoint = f"http://{host}:{listener.getsockname()[1]}"
        with _note(hub.root, Running(os.getpid(), endpoint, hub.instance)):
            # The socket listens already, so whoever reads the note or is called waits, not fails.
            if ready is not None:
                ready(endpoint)
            with _ended_by_signals():
                server.run(sockets=[listener])


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a server in good order: uvicorn raises them again at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _sweep(hub: Hub) -> None:
    """Remove what an earlier server didn't live to finish. Nobody else writes there now."""
    for leftovers in ("objects/incoming", "xet/incoming", "repos/incoming"):
        shutil.rmtree(hub.root / leftovers, ignore_errors=True)
    oldest = time.time() - PARTS_LIFE
    for upload in (hub.root / "objects" / "parts").glob("*"):
        if upload.stat().st_mtime < oldest:
            shutil.rmtree(upload, ignore_errors=True)
    listed = {f"{repo.id}.git" for repo in hub.repositories.all()}
    for history in (hub.root / "repos").glob("*.git"):
        if history.name not in listed:
            shutil.rmtree(history, ignore_errors=True)
        elif (hub.root / NOTE).exists():  # only a server that was killed leaves its note
            for lock in history.rglob("*.lock"):
                lock.unlink()


def find_running(root: Path) -> Running | None:
    """Return the server of a root if its note is true: it answers, and is the very one."""
    direct = build_opener(ProxyHandler({}))  # loopback is not behind a proxy
    try:
        note = Running(**json.loads((root / NOTE).read_text()))
        with direct.open(f"{note.endpoint}/api/instance", timeout=5) as reply:
            answer = json.load(reply)
    except (OSError, ValueError, TypeError, HTTPException):
        return None
    return note if answer == {"instance": note.instance} else None


@contextmanager
def _note(root: Path, note: Running) -> Iterator[None]:
    write_note(root, note)
    try:
        yield
    finally:
        (root / NOTE).unlink(missing_ok=True)


def write_note(root: Path, note: Running) -> None:
    """Write the note in one step, so that nobody reads half of it."""
    draft = root / f"{NOTE}.{os.getpid()}"
    draft.write_text(json.dumps(asdict(note)))
    draft.replace(root / NOTE)


@contextmanager
def _claim(root: Path) -> Iterator[None]:
    """Keep other servers off a root; the system lets go when this process ends."""
    with (root / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Another process is serving the hub in {root}") from error
        yield


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    try:
        listener = socket.create_server((host, port), backlog=128)
    except OSError as error:
        raise UserError(
            f"The hub cannot listen on {host}:{port} ({error.strerror}). "
            "Choose another port, or 0 for a free one."
        ) from error
    # asyncio does this only for sockets that name their protocol; else each answer waits 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listener:
        yield listener


if __name__ == "__main__":
    serve_for_parent(Path(sys.argv[1]))
