"""One commit, once: all files or none, whatever becomes of requests and replies.

The Hub's client does not retry a commit and can't tell a reply that was lost from a commit that
was. Here every try names the head that it was made for, so that no two tries can both land, and
after a failure the head tells whether one did.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hubq.client.client import Client
from hubq.client.repo_files import LocalFile, differences, files_of, head_of, split, without_bars
from hubq.client.retries import failures
from hubq.errors import UserError
from hubq.machine.progress import Progress

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, CommitOperationAdd

ATTRIBUTES = ".gitattributes"  # the Hub's own file: it says what lies in large-file storage

LARGE = 10_000_000  # bytes; such files go one by one, so that progress shows


@dataclass(frozen=True)
class Change:
    """What a commit is to make of a branch of a repo: exactly these files, upon this head."""

    repo: str
    head: str
    files: Mapping[str, LocalFile]
    holds: frozenset[str]  # the paths at the head
    changed: tuple[str, ...]  # the paths that the head lacks or holds with other bytes
    obsolete: tuple[str, ...]  # the paths that the head holds and the files lack
    title: str
    branch: str = "main"

    @property
    def pending(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.changed or self.obsolete)

    @property
    def added_bytes(self) -> int:
        """The bytes that the repo will hold in addition: it keeps what its history holds."""
        return sum(self.files[path].size for path in self.changed)


def compare(
    repo: str, head: str, files: Mapping[str, LocalFile], title: str, client: Client
) -> Change:
    """Compare a repo's head with what it is to hold."""
    remote = files_of(client, repo, head)
    return Change(
        repo,
        head,
        files,
        holds=frozenset(remote),
        changed=tuple(differences(files, remote)),
        obsolete=tuple(sorted(remote.keys() - files.keys() - {ATTRIBUTES})),
        title=title,
    )


def commit(change: Change, client: Client, progress: Progress) -> str:
    """Make the change in one commit and return its id; return the head's if nothing changes."""
    if not change.pending:
        return change.head
    return land(change, upload(change, client, progress), client)


def land(change: Change, additions: "Sequence[CommitOperationAdd]", client: Client) -> str:
    """Commit what was uploaded, once, and return the commit's id."""
    attempt = 1
    with without_bars():
        while (made := _attempt(change, additions, client, attempt)) is None:
            attempt += 1
    return made


def upload(change: Change, client: Client, progress: Progress) -> "list[CommitOperationAdd]":
    """Bring the large files to the Hub, where no commit shows them yet."""
    from huggingface_hub import CommitOperationAdd

    additions = {path: CommitOperationAdd(path, change.files[path].path) for path in change.changed}
    small = [path for path in additions if change.files[path].size < LARGE]
    large = [[path] for path in additions if change.files[path].size >= LARGE]
    total = sum(change.files[path].size for path in additions)
    name, kind = split(change.repo)
    with progress.task("Uploading", total) as advance, without_bars():
        for batch in [small, *large]:
            operations = [additions[path] for path in batch]
            client.api().preupload_lfs_files(name, operations, repo_type=kind, free_memory=False)
            advance(sum(change.files[path].size for path in batch))
    return list(additions.values())


def _send(
    change: Change, additions: "Sequence[CommitOperationAdd]", client: Client
) -> "CommitInfo":
    """Try once to commit.

    huggingface_hub takes an addition for one commit only, so it gets copies.
    """
    from huggingface_hub import CommitOperationDelete

    deletions: list[CommitOperationDelete] = [
        CommitOperationDelete(path, is_folder=False) for path in change.obsolete
    ]
    name, kind = split(change.repo)
    return client.api().create_commit(
        name,
        [*deletions, *map(copy, additions)],
        repo_type=kind,
        revision=change.branch,
        commit_message=change.title,
        parent_commit=change.head,
    )


def _attempt(
    change: Change, additions: "Sequence[CommitOperationAdd]", client: Client, attempt: int
) -> str | None:
    """Try to commit; return the commit's id, or None when it is worth another try."""
    try:
        return _send(change, additions, client).oid
    except failures() as error:
        head = landed(change, client)
        if head is None and not client.retries.rest(error, attempt):
            raise
        return head


def landed(change: Change, client: Client) -> str | None:
    """Return the head if it holds the change, whoever made it; None if the head did not move.

    Raises UserError where it moved to something else.
    """
    head, _ = head_of(client, change.repo, change.branch)
    if head == change.head:
        return None
    now = compare(change.repo, head, change.files, change.title, client)
    if not now.pending:
        return head
    raise UserError(
        f"{change.repo} changed during publishing: its head was {change.head[:8]} and is now "
        f"{head[:8]}.\n"
        f"Look at {client.url}/{change.repo}/commits/{change.branch}, then publish again; nothing "
        "was overwritten"
    )
