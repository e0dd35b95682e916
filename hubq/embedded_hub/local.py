"""A hub on this machine, used by its owner: one for the length of a `with`, or directly its folder.

`local_hub` attaches to the hub that serves a folder, or starts one. Users, organizations and tokens
can be made, and git asked whether all is sound, whether the hub is being served or not.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hubq.embedded_hub.accounts import OrgRole, Role
from hubq.embedded_hub.hub import FIRST_USER, Hub
from hubq.embedded_hub.serving import Running, find_running
from hubq.errors import UserError

START = 60.0  # seconds that a new server may take to answer
STOP = 10.0  # seconds that it may take to end
TOKEN_LIFE = 24 * 3600.0  # seconds; the token goes with the context, this is for a killed parent
FSCK = ("git", "fsck", "--strict", "--full", "--no-dangling")


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
        [sys.executable, "-m", "hubq.embedded_hub.serving", str(root)],
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


def mint_token(
    root: Path, *, user: str, role: Role, expires_in: float | None, only: str | None = None
) -> str:
    """Make a token for a user, good for some seconds or for ever, for `only` one repo or for all.

    It is shown once: the hub keeps only its sha256. Raises ValueError for an unknown user.
    """
    return Hub.open(root).accounts.mint(user, role, expires_in, only)


def revoke_token(root: Path, token: str) -> None:
    """Make a token worthless."""
    Hub.open(root).accounts.revoke(token)


def limit_storage(root: Path, name: str, most: int) -> None:
    """Let an account's private repos hold so many bytes of large files, and no more."""
    Hub.open(root).accounts.limit(name, most)


def add_user(root: Path, name: str) -> None:
    """Add a user unless there is one of that name. Raises ValueError if it is an organization's."""
    Hub.open(root).accounts.add_user(name)


def add_org(root: Path, name: str, members: Mapping[str, OrgRole] | Iterable[str]) -> None:
    """Add an organization unless it exists, and members: with their roles, or as writers.

    Raises ValueError if the name is a user's.
    """
    roles: dict[str, OrgRole]
    if isinstance(members, Mapping):
        roles = dict(members)
    else:
        roles = {member: "write" for member in members}
    Hub.open(root).accounts.add_org(name, roles)


def fsck(root: Path) -> None:
    """Run `git fsck --strict` over all repositories of a hub.

    Raises RuntimeError with git's words when it finds fault.
    """
    for repository in sorted((root / "repos").glob("*.git")):
        done = subprocess.run(
            [FSCK[0], "-C", str(repository), *FSCK[1:]],
            capture_output=True,
            text=True,
            check=False,
        )
        complaints = done.stdout + done.stderr
        if done.returncode != 0 or complaints.strip():
            raise RuntimeError(f"git fsck of {repository}:\n{complaints}")
