"""Votes in a data set of the Hub: a Space forgets its disk at each restart.

Each process appends to a file of its own, which huggingface_hub's scheduler commits now and then
and at the end of the process; so no process ever writes over what another one wrote. The app must
end in an orderly way on SIGTERM (`sys.exit`), or the last minutes are lost.
"""

from pathlib import Path, PurePosixPath
from uuid import uuid4

from hubq.client import Client
from hubq.remote import DATASETS, fetch_record, files_of, head_of
from votes.votes import Vote

MINUTES = 2.0  # between two commits
FOLDER = "votes"  # in the repo


class VoteRepo:
    """An archive of votes in a data set repo, private unless it exists otherwise."""

    def __init__(
        self, repo: str, folder: Path, client: Client | None = None, minutes: float = MINUTES
    ) -> None:
        from huggingface_hub import CommitScheduler

        self.repo = repo
        self.client = client or Client()
        self._file = folder / f"votes-{uuid4().hex}.jsonl"
        with self.client.speaking(f"opening the votes in {repo}"):
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
        with self.client.speaking(f"reading the votes in {self.repo}"):
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
        with self.client.speaking(f"keeping the votes in {self.repo}"):
            self._scheduler.trigger().result()
        self._scheduler.stop()
