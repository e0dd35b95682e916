"""The votes of blind comparisons, kept in a file and, on a Space, in a repo: one a comparison."""

import logging
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol, get_args

from pydantic import ValidationError

from hubq.errors import UserError
from hubq.record import Record
from votes.ballots import Ballot

Choice = Literal["left", "right", "tie", "both bad"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
PATIENCE = 10.0  # seconds that a vote waits for another that is just being written
SCHEMA = """
CREATE TABLE IF NOT EXISTS votes (
    comparison TEXT PRIMARY KEY,
    vote TEXT NOT NULL
)
"""

logger = logging.getLogger(__name__)


class Vote(Record):
    """What a visitor thought of two answers. The prompt is kept only with the visitor's consent."""

    comparison: str
    left: str
    right: str
    choice: Choice
    settings: Mapping[str, int | float]
    prompt: str | None
    time: datetime

    @classmethod
    def on(cls, ballot: Ballot, choice: Choice, *, with_prompt: bool) -> "Vote":
        """Make the vote on a comparison."""
        return cls(
            comparison=ballot.id,
            left=ballot.left,
            right=ballot.right,
            choice=choice,
            settings=ballot.settings,
            prompt=ballot.prompt if with_prompt else None,
            time=datetime.now(UTC),
        )

    @classmethod
    def read(cls, line: str) -> "Vote | None":
        """Read a kept vote; None, and a word in the log, for a person's or another hubq's line."""
        try:
            return cls.model_validate_json(line)
        except ValidationError:
            logger.warning("what was kept is no vote of this version: %.80s", line)
            return None


class Archive(Protocol):
    """Where votes outlive this machine."""

    def append(self, vote: Vote) -> None:
        """Keep a vote."""

    def votes(self) -> list[Vote]:
        """Read all that were kept, by this process and those before."""


class VoteBook:
    """All votes, in an SQLite file; several threads and processes may write at once."""

    def __init__(self, path: Path, archive: Archive | None = None) -> None:
        self.path = path
        self.archive = archive
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened() as database:
            database.execute(SCHEMA)
            for vote in archive.votes() if archive else []:
                database.execute(
                    "INSERT OR IGNORE INTO votes VALUES (?, ?)",
                    (vote.comparison, vote.model_dump_json()),
                )

    def add(self, vote: Vote) -> None:
        """Keep a vote; raise UserError when its comparison has one."""
        try:
            with self._opened() as database:
                database.execute(
                    "INSERT INTO votes VALUES (?, ?)", (vote.comparison, vote.model_dump_json())
                )
        except sqlite3.IntegrityError as error:
            raise UserError(
                "this comparison has its vote already: begin a new one to vote again"
            ) from error
        except sqlite3.Error as error:  # a full disk, or a file that somebody else holds
            raise UserError(f"the vote could not be kept ({error}). Try again later") from error
        if self.archive is not None:
            try:
                self.archive.append(vote)
            except OSError:  # the vote counts, until this machine is gone
                logger.exception("a vote did not reach the archive")

    def votes(self) -> list[Vote]:
        """Return all votes in the order in which they came, but those of another hubq's shape.

        Raises UserError where the file can't be read.
        """
        try:
            with self._opened() as database:
                rows = database.execute("SELECT vote FROM votes ORDER BY rowid").fetchall()
        except sqlite3.Error as error:
            raise UserError(f"the votes can't be read now ({error}). Try again later") from error
        return [vote for (row,) in rows if (vote := Vote.read(row))]

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=PATIENCE)) as database, database:
            yield database
