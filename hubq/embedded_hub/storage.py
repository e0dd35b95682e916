"""What a hub keeps: one SQLite file, and large files each under its sha256.

All else lies in git repositories, of which `history` and `committing` know.
"""

import hashlib
import os
import re
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS accounts (
    name TEXT PRIMARY KEY COLLATE NOCASE, kind TEXT NOT NULL CHECK (kind IN ('user', 'org')));
CREATE TABLE IF NOT EXISTS quotas (
    account TEXT PRIMARY KEY COLLATE NOCASE REFERENCES accounts ON DELETE CASCADE,
    bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS members (
    org TEXT NOT NULL COLLATE NOCASE REFERENCES accounts ON DELETE CASCADE,
    user TEXT NOT NULL COLLATE NOCASE REFERENCES accounts ON DELETE CASCADE,
    role TEXT NOT NULL CHECK (role IN ('read', 'write', 'admin')), PRIMARY KEY (org, user));
CREATE TABLE IF NOT EXISTS tokens (
    digest TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    role TEXT NOT NULL CHECK (role IN ('read', 'write')), expires REAL);
CREATE TABLE IF NOT EXISTS narrow (
    digest TEXT PRIMARY KEY REFERENCES tokens ON DELETE CASCADE, repo TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS repos (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, namespace TEXT NOT NULL COLLATE NOCASE,
    name TEXT NOT NULL COLLATE NOCASE, private INTEGER NOT NULL, gated TEXT NOT NULL,
    created REAL NOT NULL, sdk TEXT, hardware TEXT, stage TEXT, sleep INTEGER,
    UNIQUE (kind, namespace, name));
CREATE TABLE IF NOT EXISTS access (
    repo TEXT NOT NULL REFERENCES repos ON DELETE CASCADE,
    user TEXT NOT NULL COLLATE NOCASE REFERENCES accounts ON DELETE CASCADE,
    PRIMARY KEY (repo, user));
CREATE TABLE IF NOT EXISTS holdings (
    repo TEXT NOT NULL REFERENCES repos ON DELETE CASCADE, sha256 TEXT NOT NULL,
    pushed REAL NOT NULL, PRIMARY KEY (repo, sha256));
CREATE TABLE IF NOT EXISTS xet_files (
    hash TEXT PRIMARY KEY, sha256 TEXT NOT NULL, size INTEGER NOT NULL, terms TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS xet_files_by_sha256 ON xet_files (sha256);
CREATE TABLE IF NOT EXISTS settings (
    repo TEXT NOT NULL REFERENCES repos ON DELETE CASCADE, kind TEXT NOT NULL, key TEXT NOT NULL,
    value TEXT NOT NULL, description TEXT, updated REAL NOT NULL, PRIMARY KEY (repo, kind, key));
CREATE TABLE IF NOT EXISTS discussions (
    repo TEXT NOT NULL REFERENCES repos ON DELETE CASCADE, num INTEGER NOT NULL,
    title TEXT NOT NULL, status TEXT NOT NULL, author TEXT NOT NULL, pull_request INTEGER NOT NULL,
    created REAL NOT NULL, base TEXT, merged TEXT, PRIMARY KEY (repo, num));
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, repo TEXT NOT NULL, num INTEGER NOT NULL, type TEXT NOT NULL,
    author TEXT NOT NULL, created REAL NOT NULL, data TEXT NOT NULL,
    FOREIGN KEY (repo, num) REFERENCES discussions ON DELETE CASCADE);
CREATE TABLE IF NOT EXISTS collections (
    slug TEXT PRIMARY KEY, namespace TEXT NOT NULL COLLATE NOCASE, title TEXT NOT NULL,
    description TEXT, private INTEGER NOT NULL, theme TEXT NOT NULL, position INTEGER NOT NULL,
    updated REAL NOT NULL);
CREATE TABLE IF NOT EXISTS items (
    id TEXT PRIMARY KEY, slug TEXT NOT NULL REFERENCES collections ON DELETE CASCADE,
    type TEXT NOT NULL, item TEXT NOT NULL, note TEXT, position INTEGER NOT NULL,
    UNIQUE (slug, type, item));
"""
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,18})\n"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Database:
    """Opens the file for one transaction at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keeper: sqlite3.Connection | None = None

    def keep_open(self) -> None:
        """Hold the file open: SQLite tidies up, slowly, whenever the last connection closes."""
        # Opened by the thread that makes the application, closed by the one that serves it.
        self._keeper = sqlite3.connect(self.path, check_same_thread=False)
        self._keeper.execute("SELECT count(*) FROM facts").fetchone()

    def close(self) -> None:
        """Let go of the file."""
        if self._keeper is not None:
            self._keeper.close()

    def prepare(self) -> None:
        """Create the file and the tables that are missing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch(mode=0o600)
        connection = sqlite3.connect(self.path, timeout=30)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        finally:
            connection.close()

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Run the block in one transaction: all of it or, when it raises, nothing."""
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            # With a write-ahead log the file stays sound without a sync for each transaction.
            connection.execute("PRAGMA synchronous = NORMAL")
            # A reader that turns writer halfway can fail with SQLITE_BUSY, so say it at the start.
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            yield connection
            connection.execute("COMMIT")
        finally:
            # Closing with a transaction open rolls it back.
            connection.close()

    def fact(self, name: str, size: int = 8) -> str:
        """Return this root's random constant of that name, in hex, drawn at its first use."""
        with self.transaction(write=True) as connection:
            connection.execute(
                "INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, secrets.token_hex(size))
            )
            row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row["value"])


@dataclass(frozen=True)
class Pointer:
    """A large file as git sees it: its sha256 and its size in bytes."""

    sha256: str
    size: int

    def encode(self) -> bytes:
        """Write the pointer as the git LFS specification has it."""
        return b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
            self.sha256.encode(),
            self.size,
        )

    @classmethod
    def decode(cls, content: bytes) -> "Pointer | None":
        """Read a pointer; None when the content is just a file."""
        match = _POINTER.fullmatch(content) if len(content) < 200 else None
        return match and cls(match[1].decode(), int(match[2]))


class Incoming:
    """A file on its way to disk, hashed as it comes; gone again unless it is kept."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{secrets.token_hex(12)}.part"
        self.size = 0
        self._hash = hashlib.sha256()
        self._file = self.path.open("xb")

    def write(self, chunk: bytes) -> None:
        """Append a piece."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    @property
    def sha256(self) -> str:
        """The sha256 of what came so far, in hex."""
        return self._hash.hexdigest()

    def flush(self) -> None:
        """Let other readers of the path see all that was written."""
        self._file.flush()

    def keep(self, destination: Path) -> None:
        """Move the file to its place, whole and on disk before its name appears."""
        self.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        destination.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(destination)

    def __enter__(self) -> "Incoming":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


class Objects:
    """Large files on disk, found by their sha256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def receive(self) -> Incoming:
        """Open a place for a file that arrives."""
        return Incoming(self.folder / "incoming")

    def path(self, sha256: str) -> Path:
        """Say where the object of that sha256 lives."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"not a sha256: {sha256!r}")
        return self.folder / sha256[:2] / sha256[2:4] / sha256

    def size(self, sha256: str) -> int | None:
        """Return the size of an object in bytes; None when it isn't here."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def part(self, upload: str, number: int) -> Path:
        """Say where a part of a multipart upload waits for the others."""
        return self.folder / "parts" / upload / str(number)
