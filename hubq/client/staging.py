"""Where a change waits on the Hub until somebody has looked at it: a pull request, or a branch.

A pull request's own merge names no parent, so two of them, or one and a commit by hand, could mix
on main. What was looked at is therefore pushed to main by itself, upon the head that it was
compared with. The request is then closed, and its ref deleted, which would keep the files' storage
taken.

Each has a name that nobody else gives, so that it is found again after a lost reply or a kill.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hubq.client.client import Client
from hubq.client.commit import Change, land
from hubq.client.repo_files import MOST_LISTED, at_most, head_of
from hubq.client.retries import failures, status_of

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, Discussion

FORBIDDEN, MISSING, NO_METHOD, GONE = 403, 404, 405, 410
CLOSED_TO_ALL = (FORBIDDEN, GONE)  # a repo whose discussions are turned off
WAITS = "This waits until it was downloaded from here, compared and loaded."
KEPT = (MISSING, NO_METHOD)  # a ref that is gone already, or a Hub that can't let go of one


@dataclass(frozen=True)
class Staged:
    """A change that waits: in a pull request, or in a branch of that name where there is none."""

    repo: str
    name: str
    number: int | None  # of the pull request
    commit: str | None  # None: its ref was deleted

    def __str__(self) -> str:
        """Name it as people do."""
        return f"branch {self.name}" if self.number is None else f"pull request #{self.number}"


def stage(
    change: Change, additions: "Sequence[CommitOperationAdd]", name: str, client: Client
) -> Staged:
    """Commit a change to a pull request or, where the token can't open one, to a branch."""
    number = _opened(change, name, client)
    if number is None:
        start = {"branch": name, "revision": change.head}
        client.retries.call(lambda: client.api().create_branch(change.repo, **start, exist_ok=True))
    branch = name if number is None else pull_ref(number)
    commit = land(replace(change, branch=branch), additions, client)
    return Staged(change.repo, name, number, commit)


def _opened(change: Change, name: str, client: Client) -> int | None:
    """Open a pull request of that name and return its number; None where nobody may."""
    path = f"/api/models/{change.repo}/discussions"
    wanted = {"title": f"{change.title} ({name})", "description": WAITS, "pullRequest": True}
    content, form = json.dumps(wanted).encode(), {"Content-Type": "application/json"}
    attempt = 1
    while True:
        try:
            return int(json.loads(client.send("POST", path, content, form))["num"])
        except failures() as error:
            if status_of(error) in CLOSED_TO_ALL:
                return None
            if found := _request(change.repo, name, client):
                return found.num
            if not client.retries.rest(error, attempt):
                raise
            attempt += 1


def pull_ref(number: int) -> str:
    """Name the ref of a pull request."""
    return f"refs/pr/{number}"


def find(repo: str, name: str, client: Client, *, proposed: bool = False) -> Staged | None:
    """Find what waits under a name, closed or not; None: nothing does.

    That a repo shows no requests means that there is none, unless one is known to be `proposed`.
    """
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        request = _request(repo, name, client)
    except failures() as error:
        if proposed or status_of(error) not in CLOSED_TO_ALL:
            raise
        request = None
    number = None if request is None else request.num
    commit = None
    with suppress(RevisionNotFoundError):
        commit, _ = head_of(client, repo, name if number is None else pull_ref(number))
    return None if number is None and commit is None else Staged(repo, name, number, commit)


def _request(repo: str, name: str, client: Client) -> "Discussion | None":
    """Find the pull request of a name."""

    def listed() -> "list[Discussion]":
        every = client.api().get_repo_discussions(repo, discussion_type="pull_request")
        return at_most(MOST_LISTED, every)

    every = client.retries.call(listed)
    return next((each for each in every if each.title.endswith(f"({name})")), None)


def discard(staged: Staged, said: str, client: Client) -> None:
    """Close what waited, and delete its ref; either may have been done before."""
    from huggingface_hub.errors import RevisionNotFoundError

    if staged.number is None:
        with suppress(RevisionNotFoundError):
            client.retries.call(lambda: client.api().delete_branch(staged.repo, branch=staged.name))
        return
    client.retries.call(lambda: _close(staged, said, client))
    let_go(staged.repo, staged.number, client)


def let_go(repo: str, number: int, client: Client) -> None:
    """Delete the ref of a closed pull request, which keeps storage taken."""
    ref = f"/api/models/{repo}/discussions/{number}/ref"
    try:
        client.retries.call(lambda: client.send("DELETE", ref))
    except failures() as error:
        if status_of(error) not in KEPT:
            raise


def _close(staged: Staged, said: str, client: Client) -> None:
    """Close a pull request, unless that was done: what is said once is enough."""
    request = _request(staged.repo, staged.name, client)
    if request is not None and request.status in ("open", "draft"):
        client.api().change_discussion_status(staged.repo, request.num, "closed", comment=said)
