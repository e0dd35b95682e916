"""How a renewed card comes into its repo: by a pull request, of which one is open, or a commit."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from hubq.client.client import Client
from hubq.client.repo_files import (
    MOST_LISTED,
    LocalFile,
    RemoteFile,
    at_most,
    commits_of,
    files_of,
    head_of,
    history_of,
)
from hubq.client.retries import failures, status_of
from hubq.client.staging import CLOSED_TO_ALL, let_go
from hubq.records.record import Record

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, Discussion

TITLE = "Bring the table of related releases up to date"
OPEN = ("open", "draft")


class Renewed(Record):
    """What became of one card."""

    repo: str
    done: Literal["right", "proposed", "committed", "declined", "left"]
    where: str | None = None  # the address of a pull request or a commit
    why: str | None = None  # it was left


@dataclass(frozen=True)
class Renewal:
    """What is to change in a repo, upon a head."""

    repo: str
    head: str
    files: Mapping[str, LocalFile]
    removed: frozenset[str]
    said: str

    @property
    def operations(self) -> "list[CommitOperationAdd | CommitOperationDelete]":
        """The same for huggingface_hub, which takes each of these once."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        return [
            *(CommitOperationAdd(path, file.path) for path, file in self.files.items()),
            *(CommitOperationDelete(path, is_folder=False) for path in sorted(self.removed)),
        ]


def commit(renewal: Renewal, client: Client) -> Renewed:
    """Commit to main, upon the head that was looked at."""
    made = _send(renewal, client)
    close_all(renewal.repo, client)
    return Renewed(repo=renewal.repo, done="committed", where=str(made.commit_url))


def _send(renewal: Renewal, client: Client, *, as_request: bool = False) -> "CommitInfo":
    return client.api().create_commit(
        renewal.repo,
        renewal.operations,
        commit_message=TITLE,
        commit_description=renewal.said,
        parent_commit=renewal.head,
        create_pr=as_request,
    )


def propose(renewal: Renewal, client: Client) -> Renewed:
    """Open a pull request, or bring the open one up to date; don't repeat what was declined."""
    asked = list(_requests(renewal.repo, client))
    opened = [each for each in asked if each.status in OPEN]
    if asked and asked[0].status == "closed" and _standing(asked[0], renewal, client) == "same":
        where = _address(asked[0], client)
        return Renewed(repo=renewal.repo, done="declined", where=where)
    for each in opened:
        standing = _standing(each, renewal, client)
        if standing == "behind":
            _push(each, renewal, client)
        if standing != "other":
            _close(renewal.repo, [one for one in opened if one is not each], client)
            where = _address(each, client)
            return Renewed(repo=renewal.repo, done="proposed", where=where)
    made = _send(renewal, client, as_request=True)
    _close(renewal.repo, opened, client)
    return Renewed(repo=renewal.repo, done="proposed", where=str(made.pr_url))


def _requests(repo: str, client: Client) -> "Iterator[Discussion]":
    """Yield the pull requests of this kind, the newest first; whose they are doesn't matter.

    What they hold is compared before they count for anything.
    """
    try:
        every = at_most(
            MOST_LISTED, client.api().get_repo_discussions(repo, discussion_type="pull_request")
        )
    except failures() as error:
        if status_of(error) not in CLOSED_TO_ALL:
            raise
        return
    yield from sorted(
        (each for each in every if each.title == TITLE), key=lambda each: each.num, reverse=True
    )


def _address(request: "Discussion", client: Client) -> str:
    return f"{client.url}/{request.repo_id}/discussions/{request.num}"


def _standing(
    request: "Discussion", renewal: Renewal, client: Client
) -> Literal["same", "behind", "other"]:
    """Tell whether a request proposes just this, or can be brought to it by one more commit.

    It can where it was made upon the same head, and touches nothing but these files.
    """
    from huggingface_hub.errors import RevisionNotFoundError

    repo, revision = renewal.repo, f"refs/pr/{request.num}"
    try:
        there = files_of(client, repo, revision)
    except RevisionNotFoundError:  # hubq closed it, and let go of it
        return "other"
    main, ours = files_of(client, repo, renewal.head), renewal.files.keys() | renewal.removed
    if _without(there, ours) != _without(main, ours):
        return "other"
    held = {path: there.get(path) for path in renewal.files}
    same = all(each and renewal.files[path].equals(each) for path, each in held.items())
    if same and not renewal.removed & there.keys():
        return "same"
    return "behind" if renewal.head in history_of(client, repo, revision) else "other"


def _without(files: Mapping[str, RemoteFile], left: Set[str]) -> dict[str, RemoteFile]:
    return {path: file for path, file in files.items() if path not in left}


def _push(request: "Discussion", renewal: Renewal, client: Client) -> None:
    """Bring an open request up to date by a commit to it."""
    revision = f"refs/pr/{request.num}"
    commit, _ = head_of(client, renewal.repo, revision)
    still = renewal.removed & files_of(client, renewal.repo, commit).keys()
    client.api().create_commit(
        renewal.repo,
        replace(renewal, removed=still).operations,
        commit_message=TITLE,
        commit_description=renewal.said,
        revision=revision,
        parent_commit=commit,
    )


def close_all(repo: str, client: Client) -> None:
    """Close what waits though the card is right by now."""
    _close(repo, [each for each in _requests(repo, client) if each.status in OPEN], client)


def _close(repo: str, requests: "Sequence[Discussion]", client: Client) -> None:
    """Close pull requests, and let go of what they propose, which keeps storage taken."""
    for each in requests:
        client.api().change_discussion_status(repo, each.num, "closed", comment="Out of date.")
        let_go(repo, each.num, client)


def only_rows_since(commit: str, repo: str, client: Client) -> bool:
    """Tell whether all that came on main behind a commit of it are such renewals."""
    listed = commits_of(client, repo)
    later = list(takewhile(lambda each: each.commit_id != commit, listed))
    return len(later) < len(listed) and all(each.title.startswith(TITLE) for each in later)
