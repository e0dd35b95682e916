"""Where a change waits on the Hub until somebody has looked at it: a pull request, or a branch.

A pull request's own merge names no parent, so two of them, or one and a commit by hand, could mix
on main. What was looked at is therefore committed to main by itself, upon the head that it was
compared with; its large files are there already. The request is then closed, and its ref deleted,
which would keep the files' storage taken.

Each has a name that nobody else gives, so that it is found again after a lost reply or a kill.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hubq.client.client import Client
from hubq.client.commit import Change, land, send
from hubq.client.repo_files import MOST_LISTED, at_most, head_of
from hubq.client.retries import failures, status_of

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, Discussion

FORBIDDEN, MISSING, NO_METHOD, GONE = 403, 404, 405, 410
CLOSED_TO_ALL = (FORBIDDEN, GONE)  # a repo whose discussions are turned off
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
    titled = replace(change, title=f"{change.title} ({name})")
    attempt = 1
    while True:
        try:
            made = send(titled, additions, client, as_request=True)
            return Staged(change.repo, name, made.pr_num, made.oid)
        except failures() as error:
            if status_of(error) == FORBIDDEN:
                return _branched(change, additions, name, client)
            if found := find(change.repo, name, client):
                return found
            if not client.retries.rest(error, attempt):
                raise
            attempt += 1


def _branched(
    change: Change, additions: "Sequence[CommitOperationAdd]", name: str, client: Client
) -> Staged:
    """Commit a change to a branch of its own."""
    start = {"branch": name, "revision": change.head}
    client.retries.call(lambda: client.api().create_branch(change.repo, **start, exist_ok=True))
    commit = land(replace(change, branch=name), additions, client)
    return Staged(change.repo, name, None, commit)


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
        commit, _ = head_of(client, repo, name if number is None else f"refs/pr/{number}")
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
    ref = f"/api/models/{staged.repo}/discussions/{staged.number}/ref"
    try:
        client.retries.call(lambda: client.delete(ref))
    except failures() as error:
        if status_of(error) not in KEPT:
            raise


def _close(staged: Staged, said: str, client: Client) -> None:
    """Close a pull request, unless that was done: what is said once is enough."""
    request = _request(staged.repo, staged.name, client)
    if request is not None and request.status in ("open", "draft"):
        client.api().change_discussion_status(staged.repo, request.num, "closed", comment=said)
