"""Where votes are kept: in a file and, as a Space forgets its disk, in a data set of the Hub.

Each process appends to a file of its own, which huggingface_hub's scheduler commits now and then
and at the end of the process; so no process ever writes over what another one wrote. The app must
end in an orderly way on SIGTERM (`sys.exit`), or the last minutes are lost.
"""

import logging
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import NamedTuple, Protocol
from uuid import uuid4

from hubq.client.client import Client
from hubq.client.repo_files import DATASETS, fetch_record, files_of, head_of
from hubq.errors import UserError
from hubq.machine.files import cache_folder
from votes.ballots import Ballots, Vote

PATIENCE = 10.0  # seconds that a vote waits for another that is just being written
SCHEMA = """
CREATE TABLE IF NOT EXISTS votes (
    comparison TEXT PRIMARY KEY,
    vote TEXT NOT NULL
)
"""
MINUTES = 2.0  # between two commits
FOLDER = "votes"  # in the repo
FORGETFUL = (
    "Votes are kept only until this Space restarts: the variable HUBQ_SPACE_VOTES names no repo."
)

logger = logging.getLogger(__name__)


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
                "this comparison already has a vote: begin a new one to vote again"
            ) from error
        except sqlite3.Error as error:  # a full disk, or a file that somebody else holds
            raise UserError(f"the vote could not be stored ({error}). Try again later") from error
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


class VoteRepo:
    """An archive of votes in a data set repo, private unless it exists otherwise."""

    def __init__(
        self, repo: str, folder: Path, client: Client | None = None, minutes: float = MINUTES
    ) -> None:
        from huggingface_hub import CommitScheduler

        self.repo = repo
        self.client = client or Client()
        self._file = folder / f"votes-{uuid4().hex}.jsonl"
        with self.client.translate_errors(f"opening the votes in {repo}"):
            self._scheduler = CommitScheduler(
                repo_id=repo,
                repo_type="dataset",
                folder_path=folder,
                path_in_repo=FOLDER,
                every=minutes,
                private=True,
                allow_patterns="*.jsonl",
                hf_api=self.client.api(),
            )

    def append(self, vote: Vote) -> None:
        """Write a vote to the file that is committed next."""
        with self._scheduler.lock, self._file.open("a", encoding="utf-8") as file:
            file.write(vote.model_dump_json() + "\n")

    def votes(self) -> list[Vote]:
        """Read the votes that the repo holds, of all processes; what is no vote is left out."""
        address = f"{DATASETS}{self.repo}"
        with self.client.translate_errors(f"reading the votes in {self.repo}"):
            commit, _ = head_of(self.client, address)
            listed = files_of(self.client, address, commit)
            files = [
                fetch_record(self.client, address, path, commit, most=file.size)
                for path, file in sorted(listed.items())
                if PurePosixPath(path).match(f"{FOLDER}/*.jsonl")
            ]
        texts = [file.read_text("utf-8", errors="replace") for file in files]
        lines = [line for text in texts for line in text.splitlines()]
        return sorted(
            (vote for line in lines if (vote := Vote.read(line))), key=lambda vote: vote.time
        )

    def close(self) -> None:
        """Commit what is left and end."""
        with self.client.translate_errors(f"keeping the votes in {self.repo}"):
            self._scheduler.trigger().result()
        self._scheduler.stop()


class Votes(NamedTuple):
    """Open comparisons, and the votes on those that are over."""

    ballots: Ballots
    book: VoteBook
    note: str = ""  # what visitors are told of where votes are kept


def open_votes(environment: Mapping[str, str], client: Client) -> Votes:
    """Open the votes; where the named repo can't be had, visitors are told so."""
    folder = cache_folder() / "space"
    repo = environment.get("HUBQ_SPACE_VOTES", "").strip()
    if not repo:
        note = FORGETFUL if "SPACE_ID" in environment else ""
        return Votes(Ballots(), VoteBook(folder / "votes.sqlite"), note)
    name = re.sub(r"[^\w.-]+", "-", repo)
    book = folder / f"votes-{name}.sqlite"
    try:
        archive = VoteRepo(repo, Path(mkdtemp(prefix="hubq-votes-")), client)
        return Votes(Ballots(), VoteBook(book, archive))
    except UserError as error:
        note = f"Votes are kept only until this Space restarts, since {repo} can't be used: {error}"
        return Votes(Ballots(), VoteBook(book), note)
