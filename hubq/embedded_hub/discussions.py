"""Discussions and pull requests: what people said, what became of it, who may push to one."""

import json
import re
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dulwich.objects import Commit
from dulwich.refs import Ref
from dulwich.repo import Repo

from hubq.embedded_hub.committing import Message, conflicts, merge, move_ref
from hubq.embedded_hub.description import timestamp
from hubq.embedded_hub.history import commit_id, find_commit
from hubq.embedded_hub.hub import Hub
from hubq.embedded_hub.refusals import Refusal, forbidden
from hubq.embedded_hub.repositories import Repository
from hubq.embedded_hub.requests import Call
from hubq.embedded_hub.storage import Database


@dataclass(frozen=True)
class Discussion:
    """A discussion or a pull request; `base` is the commit that the latter started from."""

    num: int
    title: str
    status: str
    author: str
    pull_request: bool
    created: float
    base: str | None
    merged: str | None

    def describe(self, repo: Repository) -> dict[str, Any]:
        """Describe it as the API does in lists."""
        return {
            "num": self.num,
            "title": self.title,
            "status": self.status,
            "author": {"name": self.author, "type": "user"},
            "isPullRequest": self.pull_request,
            "createdAt": timestamp(self.created),
            "repo": {"name": repo.full_name, "type": repo.kind},
            "pinned": False,
        }


class Discussions:
    """The discussions of all repos."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def start(
        self,
        repo: Repository,
        what: Message,
        steps: tuple[Commit, Commit] | None = None,
        place: Callable[[int], None] | None = None,
    ) -> int:
        """Start a discussion, or a pull request from one commit to another; return its number.

        `place` gives the pull request its ref; if that fails, nothing was started.
        """
        base = None if steps is None else commit_id(steps[0])
        proposes = steps is not None and steps[0].id != steps[1].id
        status = "open" if steps is None or proposes else "draft"
        with self.database.transaction(write=True) as connection:
            row = connection.execute(
                "SELECT coalesce(max(num), 0) + 1 AS num FROM discussions WHERE repo = ?",
                (repo.id,),
            ).fetchone()
            number = int(row["num"])
            connection.execute(
                "INSERT INTO discussions VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
                (
                    *(repo.id, number, what.summary, status, what.author),
                    *(base is not None, time.time(), base),
                ),
            )
            said = {"comment": comment_data(what.description, what.author)}
            if steps is not None and proposes:
                said["commit"] = _commit_data(steps[1])
            for kind, data in said.items():
                _insert_event(connection, (repo.id, number), what.author, data, kind)
            if place is not None:
                place(number)
        return number

    def find(self, repo: Repository, num: int) -> Discussion:
        """Return a discussion by its number, or refuse an unknown one."""
        with self.database.transaction() as connection:
            row = connection.execute(
                "SELECT * FROM discussions WHERE repo = ? AND num = ?", (repo.id, num)
            ).fetchone()
        if row is None:
            raise Refusal(404, f"There is no discussion {num} in {repo.full_name}")
        return _discussion(row)

    def all(self, repo: Repository) -> list[Discussion]:
        """List the discussions of a repo, newest first."""
        with self.database.transaction() as connection:
            rows = connection.execute(
                "SELECT * FROM discussions WHERE repo = ? ORDER BY num DESC", (repo.id,)
            ).fetchall()
        return [_discussion(row) for row in rows]

    def change(self, repo: Repository, num: int, **values: str) -> None:
        """Set the title, the status or the merge commit."""
        assignments = ", ".join(f"{column} = ?" for column in values)
        with self.database.transaction(write=True) as connection:
            connection.execute(
                f"UPDATE discussions SET {assignments} WHERE repo = ? AND num = ?",
                (*values.values(), repo.id, num),
            )

    def add_event(
        self, repo: Repository, num: int, author: str, data: dict[str, Any], *, kind: str
    ) -> dict[str, Any]:
        """Append an event to a discussion and return it as the API shows it."""
        with self.database.transaction(write=True) as connection:
            event_id = _insert_event(connection, (repo.id, num), author, data, kind)
        return self.event(repo, num, event_id)

    def event(self, repo: Repository, num: int, event_id: str) -> dict[str, Any]:
        """Return one event of a discussion, or refuse an unknown one."""
        found = [event for event in self.events(repo, num) if event["id"] == event_id]
        if not found:
            raise Refusal(404, f"There is no event {event_id}")
        return found[0]

    def events(self, repo: Repository, num: int) -> list[dict[str, Any]]:
        """List the events of a discussion, oldest first."""
        with self.database.transaction() as connection:
            rows = connection.execute(
                "SELECT * FROM events WHERE repo = ? AND num = ? ORDER BY created, rowid",
                (repo.id, num),
            ).fetchall()
        return [_event(row) for row in rows]

    def edit_event(self, event_id: str, data: dict[str, Any]) -> None:
        """Replace what an event says."""
        with self.database.transaction(write=True) as connection:
            connection.execute(
                "UPDATE events SET data = ? WHERE id = ?", (json.dumps(data), event_id)
            )

    def note_commit(self, repo: Repository, revision: str, commit: Commit) -> None:
        """Record a commit in its pull request, if the revision is one, and open a draft."""
        if not revision.startswith("refs/pr/"):
            return
        num = int(revision.rpartition("/")[2])
        author = commit.author.decode(errors="replace").partition(" <")[0]
        self.add_event(repo, num, author, _commit_data(commit), kind="commit")
        if self.find(repo, num).status == "draft":
            self.change(repo, num, status="open")


def comment_data(text: str, author: str) -> dict[str, Any]:
    """Make the data of a comment's event."""
    return {
        "edited": False,
        "hidden": False,
        "latest": {
            "raw": text,
            # Shown as text by whoever shows it; the hub's pages have no discussions.
            "html": "",
            "updatedAt": timestamp(time.time()),
            "author": {"name": author},
        },
        "history": [],
    }


def _commit_data(commit: Commit) -> dict[str, Any]:
    subject = commit.message.decode(errors="replace").partition("\n\n")[0]
    return {"subject": subject, "oid": commit_id(commit)}


def _insert_event(
    connection: sqlite3.Connection,
    discussion: tuple[str, int],
    author: str,
    data: dict[str, Any],
    kind: str,
) -> str:
    event_id = secrets.token_hex(12)
    connection.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
        (event_id, *discussion, kind, author, time.time(), json.dumps(data)),
    )
    return event_id


def _discussion(row: sqlite3.Row) -> Discussion:
    values = {key: row[key] for key in dict(row) if key not in ("repo", "pull_request")}
    return Discussion(**values, pull_request=bool(row["pull_request"]))


def _event(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "type": row["type"],
        "author": {"name": row["author"], "type": "user"},
        "createdAt": timestamp(row["created"]),
        "data": json.loads(row["data"]),
    }


def opens_pull_request(call: Call) -> bool:
    """Tell whether a commit asks to become a pull request."""
    return call.query.get("create_pr") in ("1", "true")


def check_commit(call: Call, revision: str) -> None:
    """Refuse a visitor who may neither commit to a revision nor propose what was asked."""
    if opens_pull_request(call):
        call.check_contribute()
    else:
        _check_push(call, call.repo(), revision)


def _check_push(call: Call, repo: Repository, revision: str) -> None:
    """Refuse a visitor who may not commit to a revision: a branch, or a pull request."""
    pull = re.fullmatch(r"refs/pr/([0-9]{1,9})", revision)
    if pull is None:
        call.check_write(repo.namespace, repo.address)
        return
    call.check_contribute()
    discussion = Discussions(call.hub.database).find(repo, int(pull[1]))
    if discussion.author != call.visitor.name and not call.visitor.writes_to(repo.namespace):
        raise forbidden("Only its author and the repo's writers may push to a pull request")
    if discussion.status in ("closed", "merged"):
        raise forbidden(f"This pull request is {discussion.status}")


def open_pull_request(
    hub: Hub, repo: Repository, git: Repo, what: Message, steps: tuple[Commit, Commit]
) -> int:
    """Open a pull request from a base commit to a head, both `steps`; return its number."""

    def place(number: int) -> None:
        move_ref(git, pull_ref(number), None, steps[1].id)

    return Discussions(hub.database).start(repo, what, steps, place)


def pull_ref(number: int) -> Ref:
    """Name the ref of a pull request."""
    return Ref(b"refs/pr/%d" % number)


def list_conflicts(git: Repo, discussion: Discussion) -> list[str]:
    """List the files that main and the pull request changed in different ways."""
    if discussion.status == "merged":
        return []
    theirs = find_commit(git, f"refs/pr/{discussion.num}")
    return conflicts(git, find_commit(git, "main"), theirs)


def merge_pull_request(git: Repo, discussion: Discussion, user: str) -> str:
    """Merge a pull request into main and return the commit's id, or refuse it.

    The caller holds the repo's lock.
    """
    if not discussion.pull_request or discussion.status not in ("open", "draft"):
        raise Refusal(400, f"This discussion cannot be merged: it is {discussion.status}")
    if clash := list_conflicts(git, discussion):
        raise Refusal(409, f"Merge conflicts in {', '.join(clash)}", body={"files": clash})
    theirs = find_commit(git, f"refs/pr/{discussion.num}")
    message = Message(user, f"{discussion.title} (#{discussion.num})")
    return commit_id(merge(git, Ref(b"refs/heads/main"), theirs, message))
