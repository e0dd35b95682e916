"""The only network write: one commit with all files, then proof that the Hub holds them."""

from pathlib import Path

from hubq.client import Client
from hubq.evaluate import Report
from hubq.progress import SILENT, Progress
from hubq.record import Record


class Publication(Record):
    """What the Hub holds, verified file by file."""

    endpoint: str
    repo: str
    commit: str
    url: str
    private: bool
    files: dict[str, str]  # path -> sha256, compared with the Hub's own


def publish(report: Report, run: Path, client: Client, progress: Progress = SILENT) -> Publication:
    """Create the repo if need be, commit once, verify, save run/publication.json."""
    raise NotImplementedError
