"""The list of repos: kind, name, visibility, large files, and who may do what with each.

`admit` is the one place where a visitor is let in to a repo or refused.
"""

import dataclasses
import sqlite3
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from hubq.embedded_hub.accounts import Visitor
from hubq.embedded_hub.refusals import (
    check_repo_name,
    forbidden,
    gated,
    repository_not_found,
    sign_in_first,
)
from hubq.embedded_hub.storage import Database
from hubq.records.vocabulary import Kind

Gate = Literal["no", "auto", "manual"]
KINDS: tuple[Kind, ...] = ("model", "dataset", "space")


@dataclass(frozen=True)
class Repository:
    """One repo as the list has it; its files are in git and in the object store."""

    id: str
    kind: Kind
    namespace: str
    name: str
    private: bool
    gate: Gate
    created: float
    sdk: str | None = None
    hardware: str | None = None
    stage: str | None = None
    sleep: int | None = None

    @property
    def full_name(self) -> str:
        """The repo_id of the client: namespace/name."""
        return f"{self.namespace}/{self.name}"

    @property
    def prefix(self) -> str:
        """What stands before the name in the address of the repo's page."""
        return "" if self.kind == "model" else f"{self.kind}s/"

    @property
    def address(self) -> str:
        """The path of the repo's page, without a leading slash."""
        return self.prefix + self.full_name


@dataclass(frozen=True)
class Belongings:
    """What a new repo has from the start: large files, and a Space's secrets and variables."""

    large_files: tuple[str, ...] = ()
    settings: tuple[tuple[str, Mapping[str, Any]], ...] = ()


def draft(kind: Kind, namespace: str, name: str, *, private: bool) -> Repository:
    """Make the record of a repo that isn't listed yet."""
    check_repo_name(name)
    return Repository(uuid.uuid4().hex, kind, namespace, name, private, "no", time.time())


class Repositories:
    """The repos of one hub and who may do what with them."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, repo: Repository, given: Belongings) -> None:
        """List a new repo with what it has from the start.

        Raises FileExistsError when the name is taken.
        """
        values = {**dataclasses.asdict(repo), "gated": repo.gate}
        del values["gate"]
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        try:
            with self.database.transaction(write=True) as connection:
                connection.execute(
                    f"INSERT INTO repos ({columns}) VALUES ({marks})", (*values.values(),)
                )
                _hold(connection, repo.id, given.large_files)
                for table, setting in given.settings:
                    insert_setting(connection, repo.id, table, setting)
        except sqlite3.IntegrityError as error:
            raise FileExistsError(repo.full_name) from error

    def find(self, kind: Kind, namespace: str, name: str) -> Repository | None:
        """Look a repo up by its name; upper and lower case are the same."""
        with self.database.transaction() as connection:
            row = connection.execute(
                "SELECT * FROM repos WHERE kind = ? AND namespace = ? AND name = ?",
                (kind, namespace, name),
            ).fetchone()
        return row and _repository(row)

    def by_id(self, repo_id: str) -> Repository | None:
        """Look a repo up by its id, which it keeps when it is renamed."""
        with self.database.transaction() as connection:
            row = connection.execute("SELECT * FROM repos WHERE id = ?", (repo_id,)).fetchone()
        return row and _repository(row)

    def all(self, kind: Kind | None = None) -> list[Repository]:
        """List the repos, newest first."""
        with self.database.transaction() as connection:
            rows = connection.execute("SELECT * FROM repos ORDER BY created DESC").fetchall()
        return [_repository(row) for row in rows if kind in (None, row["kind"])]

    def change(self, repo: Repository, **values: str | int | None) -> None:
        """Set columns of a repo's row.

        Raises FileExistsError when the new name is taken.
        """
        assignments = ", ".join(f"{column} = ?" for column in values)
        try:
            with self.database.transaction(write=True) as connection:
                connection.execute(
                    f"UPDATE repos SET {assignments} WHERE id = ?", (*values.values(), repo.id)
                )
        except sqlite3.IntegrityError as error:
            raise FileExistsError(repo.full_name) from error

    def remove(self, repo: Repository) -> None:
        """Strike a repo off the list, with all that hangs on it."""
        with self.database.transaction(write=True) as connection:
            connection.execute("DELETE FROM repos WHERE id = ?", (repo.id,))

    def hold(self, repo_id: str, sha256s: Iterable[str]) -> None:
        """Note that a repo holds large files, so that it may commit and serve them."""
        with self.database.transaction(write=True) as connection:
            _hold(connection, repo_id, sha256s)

    def holdings(self, repo: Repository) -> dict[str, float]:
        """Map the sha256 of each large file of a repo to when it was pushed."""
        with self.database.transaction() as connection:
            rows = connection.execute(
                "SELECT sha256, pushed FROM holdings WHERE repo = ?", (repo.id,)
            ).fetchall()
        return {row["sha256"]: row["pushed"] for row in rows}

    def holds(self, repo_id: str, sha256: str) -> bool:
        """Tell whether a repo holds a large file."""
        with self.database.transaction() as connection:
            row = connection.execute(
                "SELECT 1 FROM holdings WHERE repo = ? AND sha256 = ?", (repo_id, sha256)
            ).fetchone()
        return row is not None

    def drop(self, repo: Repository, sha256s: Iterable[str]) -> None:
        """Take large files away from a repo."""
        with self.database.transaction(write=True) as connection:
            connection.executemany(
                "DELETE FROM holdings WHERE repo = ? AND sha256 = ?",
                [(repo.id, sha256) for sha256 in sha256s],
            )

    def grant(self, repo: Repository, user: str, *, allowed: bool = True) -> None:
        """Let a user download from a gated repo, or no longer."""
        with self.database.transaction(write=True) as connection:
            connection.execute(
                "INSERT OR IGNORE INTO access VALUES (?, ?)"
                if allowed
                else "DELETE FROM access WHERE repo = ? AND user = ?",
                (repo.id, user),
            )

    def admits(self, repo: Repository, visitor: Visitor) -> bool:
        """Tell whether the visitor may download the repo's files."""
        if repo.gate == "no" or visitor.belongs_to(repo.namespace):
            return True
        with self.database.transaction() as connection:
            row = connection.execute(
                "SELECT 1 FROM access WHERE repo = ? AND user = ?", (repo.id, visitor.name)
            ).fetchone()
        return row is not None


def _hold(connection: sqlite3.Connection, repo_id: str, sha256s: Iterable[str]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO holdings SELECT id, ?, ? FROM repos WHERE id = ?",
        [(sha256, time.time(), repo_id) for sha256 in sha256s],
    )


def insert_setting(
    connection: sqlite3.Connection, repo_id: str, table: str, setting: Mapping[str, Any]
) -> None:
    """Set one secret or variable, which was checked, as part of a transaction."""
    kept = "" if table == "secrets" else setting["value"]
    connection.execute(
        "INSERT OR REPLACE INTO settings VALUES (?, ?, ?, ?, ?, ?)",
        (repo_id, table, setting["key"], kept, setting.get("description"), time.time()),
    )


def may_read(repo: Repository, visitor: Visitor) -> bool:
    """Tell whether the visitor may know that the repo exists."""
    return not repo.private or visitor.belongs_to(repo.namespace)


def _repository(row: sqlite3.Row) -> Repository:
    values = dict(row)
    return Repository(gate=values.pop("gated"), private=bool(values.pop("private")), **values)


class Access(Enum):
    """What a route gives or takes, and so whom it lets in. Each route names one."""

    OPEN = "no token counts: the request carries a ticket, or what it asks is everybody's"
    NO_REPO = "the address names no repo; one that the body or a list names is admitted apart"
    KNOW = "names, sizes, the card, what people said: of a gated repo everybody may have it"
    READ = "the content of files, in whatever form, or a way to it"
    WRITE = "changing the repo"


def admit(
    repositories: Repositories, repo: Repository | None, visitor: Visitor, access: Access
) -> Repository:
    """Return the repo for a visitor who has that access to it, or refuse.

    A repo that the visitor may not know of is answered for as one that doesn't exist.
    """
    if repo is None or not may_read(repo, visitor):
        raise repository_not_found(anonymous=visitor.anonymous)
    if access is Access.READ and not repositories.admits(repo, visitor):
        raise gated(repo.full_name, anonymous=visitor.anonymous)
    if access is Access.WRITE:
        check_write(visitor, repo.namespace, repo.address)
    return repo


def check_write(visitor: Visitor, namespace: str, what: str) -> None:
    """Refuse a visitor who may not write to a namespace."""
    if visitor.anonymous:
        raise sign_in_first()
    if not visitor.writes_to(namespace) or visitor.only not in (None, what):
        raise forbidden(f"You don't have the rights to write to {what}")
