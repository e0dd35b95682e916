"""What the Hub holds: the files of a repo with their hashes, and whether local ones equal them.

A repo goes by its address, as in the Hub's links: org/name is a model, spaces/org/name a Space.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from hubq.client import Client
from hubq.digest import sha256_of
from hubq.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, SpaceInfo

Kind = Literal["model", "space"]
SPACES = "spaces/"


@dataclass(frozen=True)
class RemoteFile:
    """A file as the Hub lists it: large ones go by sha256, small ones by their git blob id."""

    size: int
    blob_id: str
    sha256: str | None


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine; its hashes are computed when they are first asked for."""

    path: Path

    @cached_property
    def size(self) -> int:
        """The size in bytes."""
        return self.path.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """The hash of the content."""
        return sha256_of(self.path)

    @cached_property
    def blob_id(self) -> str:
        """The id that git gives the content."""
        return hashlib.sha1(b"blob %d\0" % self.size + self.path.read_bytes()).hexdigest()

    def equals(self, remote: RemoteFile) -> bool:
        """Tell whether the Hub holds the same bytes."""
        if remote.sha256 is not None:
            return self.size == remote.size and self.sha256 == remote.sha256
        return self.size == remote.size and self.blob_id == remote.blob_id


def split(repo: str) -> tuple[str, Kind]:
    """Return org/name and the kind of a repo by its address."""
    name = repo.removeprefix(SPACES)
    return name, "model" if name == repo else "space"


def head_of(client: Client, repo: str, revision: str | None = None) -> tuple[str, bool]:
    """Return the commit at a revision (main when None), and whether the repo is private."""
    info = client.patience.keep_trying(lambda: _info(client, repo, revision))
    assert info.sha is not None
    return info.sha, bool(info.private)


def _info(client: Client, repo: str, revision: str | None) -> "ModelInfo | SpaceInfo":
    name, kind = split(repo)
    if kind == "space":
        return client.api().space_info(name, revision=revision, expand=["sha", "private"])
    return client.api().model_info(name, revision=revision, expand=["sha", "private"])


def gate_of(client: Client, repo: str) -> Literal["auto", "manual"] | None:
    """Return who answers the requests of those who want to download; None: nobody has to ask."""
    info = client.patience.keep_trying(lambda: client.api().model_info(repo, expand=["gated"]))
    return info.gated or None


def history_of(client: Client, repo: str) -> list[str]:
    """List the commits of main, newest first."""
    name, kind = split(repo)
    listed = client.patience.keep_trying(
        lambda: client.api().list_repo_commits(name, repo_type=kind)
    )
    return [each.commit_id for each in listed]


def files_of(client: Client, repo: str, commit: str) -> dict[str, RemoteFile]:
    """List the files of a repo at a commit, by path."""
    from huggingface_hub.hf_api import RepoFile

    name, kind = split(repo)
    listed = client.patience.keep_trying(
        lambda: list(
            client.api().list_repo_tree(name, recursive=True, revision=commit, repo_type=kind)
        )
    )
    files = [each for each in listed if isinstance(each, RepoFile)]
    for each in files:
        _refuse_escape(repo, each.path)
    return {
        each.path: RemoteFile(each.size, each.blob_id, each.lfs.sha256 if each.lfs else None)
        for each in files
    }


def _refuse_escape(repo: str, path: str) -> None:
    """Refuse a path that would lead out of the folder that it is downloaded to."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or "\\" in path:
        raise UserError(f"{repo} lists a file {path!r}, which leads out of its folder; not touched")


def differences(local: Mapping[str, LocalFile], remote: Mapping[str, RemoteFile]) -> list[str]:
    """List the local files that the Hub lacks or holds with other bytes."""
    return [
        path for path, file in local.items() if path not in remote or not file.equals(remote[path])
    ]


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep huggingface_hub from drawing bars of its own over those of hubq."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
