"""What the Hub holds: the files of a repo with their hashes, and whether local ones equal them.

A repo goes by its address, as in the Hub's links: org/name is a model, spaces/org/name a Space,
datasets/org/name a data set.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hubq.client.answers import ImplausibleError
from hubq.client.client import Client
from hubq.machine.files import sha256_of
from hubq.machine.progress import Advance
from hubq.records.vocabulary import Kind

if TYPE_CHECKING:
    from huggingface_hub.hf_api import DatasetInfo, GitCommitInfo, ModelInfo, RepoFile, SpaceInfo

KINDS: Mapping[str, Kind] = {"spaces/": "space", "datasets/": "dataset"}
Listed = TypeVar("Listed")
SPACES, DATASETS = KINDS
MOST_LISTED = 100_000  # files, models or commits; the Hub advises against repos of so many files
LONGEST_RECORD = 50_000_000  # bytes of a config.json, an index or a report


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
    for prefix, kind in KINDS.items():
        if repo.startswith(prefix):
            return repo.removeprefix(prefix), kind
    return repo, "model"


def head_of(client: Client, repo: str, revision: str | None = None) -> tuple[str, bool]:
    """Return the commit at a revision (main when None), and whether the repo is private."""
    info = client.retries.call(lambda: _info(client, repo, revision))
    return commit_of(info), bool(info.private)


def commit_of(info: "ModelInfo | DatasetInfo | SpaceInfo") -> str:
    """Return the commit that the Hub speaks of."""
    if info.sha is None:
        raise ImplausibleError(f"the Hub does not say which commit {info.id} is at")
    return info.sha


def at_most(most: int, listed: Iterable[Listed]) -> list[Listed]:
    """Return all that a Hub lists; raise ImplausibleError when there is no end to it."""
    found = list(islice(listed, most + 1))
    if len(found) > most:
        raise ImplausibleError(f"the Hub lists more than {most:,} entries; they were not read")
    return found


def _info(client: Client, repo: str, revision: str | None) -> "ModelInfo | DatasetInfo | SpaceInfo":
    name, kind = split(repo)
    match kind:
        case "space":
            return client.api().space_info(name, revision=revision, expand=["sha", "private"])
        case "dataset":
            return client.api().dataset_info(name, revision=revision, expand=["sha", "private"])
        case "model":
            return client.api().model_info(name, revision=revision, expand=["sha", "private"])


def gate_of(client: Client, repo: str) -> Literal["auto", "manual"] | None:
    """Return who answers the requests of those who want to download; None: nobody has to ask."""
    info = client.retries.call(lambda: client.api().model_info(repo, expand=["gated"]))
    return info.gated or None


def history_of(client: Client, repo: str, revision: str | None = None) -> list[str]:
    """List the ids of the commits of a revision (main when None), newest first."""
    return [each.commit_id for each in commits_of(client, repo, revision)]


def commits_of(client: Client, repo: str, revision: str | None = None) -> "list[GitCommitInfo]":
    """List the commits of a revision (main when None), newest first."""
    name, kind = split(repo)
    return client.retries.call(
        lambda: at_most(
            MOST_LISTED,
            client.api().list_repo_commits(name, repo_type=kind, revision=revision),
        )
    )


def files_of(client: Client, repo: str, commit: str) -> dict[str, RemoteFile]:
    """List the files of a repo at a commit, by path."""
    from huggingface_hub.hf_api import RepoFile

    name, kind = split(repo)
    listed = client.retries.call(
        lambda: at_most(
            MOST_LISTED,
            client.api().list_repo_tree(name, recursive=True, revision=commit, repo_type=kind),
        )
    )
    return {each.path: _remote(each) for each in listed if isinstance(each, RepoFile)}


def _remote(file: "RepoFile") -> RemoteFile:
    return RemoteFile(file.size, file.blob_id, file.lfs.sha256 if file.lfs else None)


def fetch_record(
    client: Client, repo: str, path: str, commit: str, most: int = LONGEST_RECORD
) -> Path:
    """Return a file of a repo on this machine, of `most` bytes or fewer; download it if need be."""
    name, kind = split(repo)
    return Path(
        client.retries.call(
            lambda: client.api().hf_hub_download(
                name,
                path,
                revision=commit,
                repo_type=kind,
                tqdm_class=bar(lambda steps: None, most),
            )
        )
    )


def fetch_listed(client: Client, repo: str, path: str, commit: str) -> Path:
    """Return a file of a repo on this machine; download as much as the Hub lists, if need be."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.hf_api import RepoFile

    name, kind = split(repo)
    known = try_to_load_from_cache(name, path, revision=commit, repo_type=kind)
    if isinstance(known, str):
        return Path(known)
    listed = client.retries.call(
        lambda: client.api().get_paths_info(name, [path], revision=commit, repo_type=kind)
    )
    size = sum(each.size for each in listed if isinstance(each, RepoFile))
    return fetch_record(client, repo, path, commit, most=size)


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


def bar(advance: Advance, most: int) -> Any:  # noqa: ANN401 - a subclass of tqdm's class is wanted
    """Return a class in the place of tqdm: each byte on the disk advances once.

    huggingface_hub uses just these methods of a bar; it tells apart what came over the network
    (`update_transfer`) and what was written (`update`), and calls `update` before it writes. More
    than `most` bytes are refused: where they are announced, and where they come unannounced.
    """

    class Bar:
        def __init__(
            self, *_: object, total: float | None = None, initial: int = 0, **__: object
        ) -> None:
            self._written = 0
            _refuse_more(total or 0, most)
            self.update(initial)

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, steps: float | None = 1) -> None:
            self._written += int(steps or 0)
            _refuse_more(self._written, most)
            advance(int(steps or 0))

        def update_transfer(self, steps: float | None = 1) -> None:
            pass

        def set_postfix_str(self, *_: object, **__: object) -> None:
            pass

        def set_transfer_postfix_str(self, *_: object, **__: object) -> None:
            pass

        def refresh(self) -> None:
            pass

        def close(self) -> None:
            pass

    return Bar


def _refuse_more(size: float, most: int) -> None:
    if size > most:
        raise ImplausibleError(
            f"a file arrived with more than the {most:,} bytes that are allowed, and was not "
            "kept.\n"
            "The Hub does not send what it lists: don't use its files"
        )
