"""Which commit of a repo was brought where: pulling again stays there until it is told to move.

The record lies in the folder, under .cache, where no loader looks; of huggingface_hub's cache it
lies in hubq's own.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hubq.client.client import Client
from hubq.client.pull import pull
from hubq.client.repo_files import LocalFile, RemoteFile, files_of, head_of, split
from hubq.client.retries import failures
from hubq.errors import UserError
from hubq.machine.files import cache_folder
from hubq.machine.progress import SILENT, Progress
from hubq.records.record import Record
from hubq.records.run_folder import CHANGELOG
from hubq.records.vocabulary import address

PLACE = ".cache/hubq/pulled.json"  # in a folder


class Pulled(Record):
    """What a pull brought."""

    endpoint: str
    repo: str
    commit: str


@dataclass(frozen=True)
class Moved:
    """Main is elsewhere than what lies here."""

    repo: str
    here: str  # commit
    main: str  # commit
    tags: tuple[str, ...]  # of what lies here
    has_changelog: bool  # on main

    def __str__(self) -> str:
        """Say so, and the way on."""
        tagged = f", tag {', '.join(self.tags)}" if self.tags else ""
        changes = f"; {CHANGELOG} there says what changed" if self.has_changelog else ""
        return (
            f"main of {self.repo} has moved since: {self.here[:12]}{tagged} → {self.main[:12]}"
            f"{changes}. What lies here stays at its commit: --update brings the newer"
        )


@dataclass(frozen=True)
class Brought:
    """Where the files of which commit lie, and what main has become meanwhile."""

    folder: Path
    commit: str
    moved: Moved | None

    def as_json(self, repo: str) -> dict[str, Any]:
        """Say all that in JSON values."""
        moved = self.moved and {
            "main": self.moved.main,
            "tags": list(self.moved.tags),
            "changelog": self.moved.has_changelog,
        }
        return {"repo": repo, "folder": str(self.folder), "commit": self.commit, "moved": moved}


def bring(
    repo: str,
    folder: Path | None,
    client: Client,
    progress: Progress = SILENT,
    *,
    update: bool = False,
) -> Brought:
    """Pull org/name or org/name@revision, and remember its commit.

    Where a commit of the repo was brought before, it stays: unless it is an `update`, or another
    revision is named. Raises UserError as `pull` does, and where that commit is gone.
    """
    name, revision = address(repo)
    record = _record(name, folder)
    known = _known(record, name, client)
    with client.translate_errors(f"looking at {repo}"):
        commit, _ = head_of(client, name, revision)
        moved = None
        if known and not update and revision is None and known != commit:
            moved = _moved(name, known, commit, client)
            commit = known
    place = pull(f"{name}@{commit}", folder, client, progress)
    if folder is not None and known and known != commit:
        with client.translate_errors(f"clearing {folder} of what {repo} no longer holds"):
            _clear(folder, name, known, commit, client)
    Pulled(endpoint=client.url, repo=name, commit=commit).save(record)
    return Brought(place, commit, moved)


def _record(repo: str, folder: Path | None) -> Path:
    """Return where it is written what was brought."""
    if folder is not None:
        return folder / PLACE
    return cache_folder("pulled") / f"{hashlib.sha256(repo.encode()).hexdigest()[:32]}.json"


def _known(record: Path, repo: str, client: Client) -> str | None:
    """Return the commit that was brought before; None: none was, or it was another repo's.

    A local Hub gets another address each time, so one that knows the commit is the same.
    """
    try:
        pulled = Pulled.model_validate_json(record.read_bytes())
    except (OSError, ValidationError):
        return None
    if pulled.repo != repo:
        return None
    if pulled.endpoint != client.url and not _holds(repo, pulled.commit, client):
        return None
    return pulled.commit


def _holds(repo: str, commit: str, client: Client) -> bool:
    """Tell whether a Hub knows a commit."""
    try:
        head_of(client, repo, commit)
    except failures():
        return False
    return True


def _moved(repo: str, here: str, main: str, client: Client) -> Moved:
    """Say what became of main; raise UserError where the commit that lies here is gone."""
    from huggingface_hub.errors import RevisionNotFoundError

    name, kind = split(repo)
    try:
        head_of(client, repo, here)
    except RevisionNotFoundError as error:
        raise UserError(
            f"{repo} no longer holds {here[:12]}, which was brought here before: its history was "
            f"rewritten, and main is at {main[:12]}.\nTo bring that, add --update"
        ) from error
    refs = client.retries.call(lambda: client.api().list_repo_refs(name, repo_type=kind))
    tags = tuple(sorted(each.name for each in refs.tags if each.target_commit == here))
    return Moved(repo, here, main, tags, CHANGELOG in files_of(client, repo, main))


def _clear(folder: Path, repo: str, before: str, after: str, client: Client) -> None:
    """Remove the files that only the commit before had, if they are still what it had."""
    if not _holds(repo, before, client):
        return
    old: Mapping[str, RemoteFile] = files_of(client, repo, before)
    for path in old.keys() - files_of(client, repo, after).keys():
        place = folder / path
        is_inside = place.resolve().is_relative_to(folder.resolve())
        if place.is_file() and is_inside and LocalFile(place).equals(old[path]):
            place.unlink()
