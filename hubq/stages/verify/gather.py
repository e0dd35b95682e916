"""Gather what the checks look at: the hash of every file, and the files that say something."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from hubq.client.client import Client
from hubq.client.commit import ATTRIBUTES
from hubq.client.pull import Snapshot, check, download
from hubq.client.repo_files import (
    LONGEST_RECORD,
    LocalFile,
    RemoteFile,
    files_of,
    head_of,
    without_bars,
)
from hubq.errors import UserError
from hubq.machine.files import gigabytes
from hubq.machine.progress import SILENT, Progress
from hubq.records.adapted_report import load_report
from hubq.records.attestation import Statement
from hubq.records.report import Report
from hubq.records.run_folder import ATTESTATION_IN_A_REPO, PAPERS, PLAN, REPORT_IN_A_REPO
from hubq.records.vocabulary import address
from hubq.stages.lint.gather import folder_release, repo_release
from hubq.stages.lint.release import Release

MOST_SMALL = 500_000_000  # bytes of all files outside of large-file storage


class Hashed(NamedTuple):
    """A file of a release: as it was read, or as the Hub lists it."""

    size: int
    sha256: str | None  # None: it was not read, and the Hub does not say


@dataclass(frozen=True)
class Trust:
    """Whose signature a user trusts."""

    key: Path | None = None  # the public half, in PEM
    identity: str | None = None
    issuer: str | None = None  # who says that it is that identity
    required: bool = False  # whether a release without such a signature fails

    @property
    def named(self) -> bool:
        """Whether anybody is trusted."""
        return self.key is not None or self.identity is not None


@dataclass(frozen=True)
class Subject:
    """A release to be verified."""

    release: Release
    files: Mapping[str, Hashed]  # all but the Hub's own
    places: Mapping[str, Path]  # of those that were read
    client: Client
    trust: Trust

    @property
    def read_whole(self) -> bool:
        """Whether every byte was read, and not only what the Hub lists."""
        return self.files.keys() <= self.places.keys()

    @cached_property
    def report(self) -> Report | None:
        """The report; None: hubq did not make this. Raises UserError where it is damaged."""
        return load_report(self._read(REPORT_IN_A_REPO)) if self.has_report else None

    @property
    def has_report(self) -> bool:
        """Whether hubq made this."""
        return REPORT_IN_A_REPO in self.files

    @cached_property
    def attestation(self) -> Statement | None:
        """The attestation; None: there is none. Raises UserError where it is damaged."""
        if ATTESTATION_IN_A_REPO not in self.files:
            return None
        return Statement.load(self._read(ATTESTATION_IN_A_REPO))

    def _read(self, path: str) -> Path:
        """Return a file that was read; raise UserError for one that is too large to be a record."""
        if path not in self.places or self.files[path].size > LONGEST_RECORD:
            raise UserError(f"{path} has {self.files[path].size:,} bytes, too many for a record")
        return self.places[path]


def folder_subject(folder: Path, client: Client, trust: Trust) -> Subject:
    """Gather a folder that a release was downloaded to; every byte of it is read."""
    if (folder / PLAN).is_file():
        raise UserError(
            f"{folder} is a run folder, not a release: name the repo that it was published to, or "
            "the folder of a download"
        )
    release = folder_release(folder)
    places = {path: folder / path for path in release.files if path != ATTRIBUTES}
    local = {path: LocalFile(place) for path, place in places.items()}
    files = {path: Hashed(each.size, each.sha256) for path, each in local.items()}
    return Subject(release, files, places, client, trust)


def repo_subject(
    repo: str, client: Client, trust: Trust, progress: Progress = SILENT, *, whole: bool = False
) -> Subject:
    """Gather a repo at the commit that it is at now; `whole` downloads the weights too.

    Files outside of large-file storage are read in any case: of these the Hub lists no sha256.
    """
    name, revision = address(repo)
    with client.translate_errors(f"looking up {repo}"), without_bars():
        commit, _ = head_of(client, name, revision)
        listed = files_of(client, name, commit)
        listed.pop(ATTRIBUTES, None)
        wanted = {path: each for path, each in listed.items() if whole or _is_small(path, each)}
        _refuse_flood(name, {} if whole else wanted)
        snapshot = Snapshot(name, commit, None, client)
        places = download(snapshot, wanted, progress)
        read = check(snapshot, wanted, places, progress)
    files = {
        path: Hashed(each.size, read[path].sha256 if path in read else each.sha256)
        for path, each in listed.items()
    }
    placed = {path: each.path for path, each in read.items()}
    return Subject(repo_release(f"{name}@{commit}", client), files, placed, client, trust)


def _is_small(path: str, file: RemoteFile) -> bool:
    """Tell whether a file says something, or has no sha256 but that of its bytes."""
    return file.size <= LONGEST_RECORD and (file.sha256 is None or path in PAPERS)


def _refuse_flood(name: str, wanted: Mapping[str, RemoteFile]) -> None:
    """Refuse to download without end what is said to be small."""
    size = sum(each.size for each in wanted.values())
    if size > MOST_SMALL:
        raise UserError(
            f"{name} holds {gigabytes(size)} outside of large-file storage, more than any release "
            "of hubq; look at it, then verify all of it with --download"
        )
