"""A hub for the length of a `with`: the one that runs already, or a new one."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hubq.embedded_hub.hub import FIRST_USER, Hub
from hubq.embedded_hub.serving import Running, find_running
from hubq.errors import UserError

START = 60.0  # seconds that a new server may take to answer
STOP = 10.0  # seconds that it may take to end
TOKEN_LIFE = 24 * 3600.0  # seconds; the token goes with the context, this is for a killed parent


@dataclass(frozen=True)
class LocalHub:
    """Where the hub is and a token for it."""

    endpoint: str
    token: str = field(repr=False)


def default_root() -> Path:
    """Return the folder of the user's own hub, in the user's cache."""
    if own := os.environ.get("HUBQ_CACHE"):
        return Path(own) / "hub"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "hubq" / "hub"


@contextmanager
def local_hub(
    root: Path | None = None, user: str = FIRST_USER, org: str | None = None
) -> Iterator[LocalHub]:
    """Give a hub and a token for it: attach to the one that serves the root, or start one.

    The user and the organization are made if they are missing, with the user as a writer. The
    token ends with the context, and so does a server that was started for it.
    """
    place = (default_root() if root is None else root).absolute()
    accounts = Hub.open(place).accounts
    accounts.add_user(user)
    if org is not None:
        accounts.add_org(org, {user: "write"})
    with _server(place) as running:
        token = accounts.mint(user, "write", TOKEN_LIFE)
        try:
            yield LocalHub(running.endpoint, token)
        finally:
            accounts.revoke(token)


@contextmanager
def _server(root: Path) -> Iterator[Running]:
    running = find_running(root)
    if running is not None:
        yield running
        return
    child = _start(root)
    try:
        yield _wait(root, child)
    finally:
        _stop(child)


def _start(root: Path) -> subprocess.Popen[bytes]:
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "hubq.embedded_hub.child", str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        # Ctrl-C is for the parent, which still needs the hub while it cleans up.
        start_new_session=True,
    )


def _wait(root: Path, child: subprocess.Popen[bytes]) -> Running:
    """Wait until a server answers: the child, or one that somebody started at the same time."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if (running := find_running(root)) is not None:
            return running
        if child.poll() is not None and find_running(root) is None:
            assert child.stderr is not None
            reason = child.stderr.read().decode(errors="replace").strip().splitlines()
            raise UserError(f"The local hub did not start: {(reason or ['no reason given'])[-1]}")
        time.sleep(0.05)
    raise UserError(f"The local hub in {root} did not answer within {START:.0f} s")


def _stop(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    assert child.stderr is not None
    child.stdin.close()
    try:
        child.wait(STOP)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stderr.close()
