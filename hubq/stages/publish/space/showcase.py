"""What a Space is about: an organization's releases and their bases, as its README names them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, Literal

from hubq.client.client import Client
from hubq.client.repo_files import (
    MOST_LISTED,
    RemoteFile,
    at_most,
    commit_of,
    fetch_record,
    files_of,
)
from hubq.errors import UserError
from hubq.records.run_folder import REPORT_IN_A_REPO
from hubq.records.vocabulary import address
from hubq.sources.auxiliary_files import is_auxiliary

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

ABOUT: tuple[Literal["sha", "private", "gated", "siblings"], ...] = (
    "sha",
    "private",
    "gated",
    "siblings",
)
PRELOADED = 20_000_000_000  # bytes of models that lie in a Space's image; its disk has 50 GB


@dataclass(frozen=True)
class Repo:
    """A model as a Space needs it: at one commit, with the files that are read there."""

    name: str
    commit: str
    files: tuple[str, ...]
    size: int
    is_open: bool  # to everybody: neither private nor gated


@dataclass(frozen=True)
class Showcase:
    """The releases of an organization, and the bases that can be had from the same Hub."""

    releases: tuple[Repo, ...]
    bases: tuple[Repo, ...]

    @property
    def has_private(self) -> bool:
        """Whether a visitor sees some of the releases only through a token of the Space."""
        return not all(each.is_open for each in self.releases)

    @property
    def models(self) -> list[str]:
        """Name what everybody may see."""
        every = (*self.releases, *self.bases)
        return sorted({each.name for each in every if each.is_open})

    @property
    def preloads(self) -> list[str]:
        """List what the builder downloads ahead, the smallest first, as `preload_from_hub` does.

        Each is pinned: what was measured and nothing newer. A builder has no token, so only open
        repos are named.
        """
        every = (each for each in (*self.releases, *self.bases) if each.is_open)
        chosen, total = [], 0
        for each in sorted(every, key=lambda repo: (repo.size, repo.name)):
            total += each.size
            if total <= PRELOADED:
                chosen.append(f"{each.name} {','.join(each.files)} {each.commit}")
        return sorted(chosen)


def look(org: str, client: Client) -> Showcase:
    """Look at an organization's models and read from their reports what they were made from."""
    with client.translate_errors(f"listing the models of {org}"):
        infos = client.retries.call(
            lambda: at_most(MOST_LISTED, client.api().list_models(author=org, expand=[*ABOUT]))
        )
        found = [
            each
            for each in infos
            if REPORT_IN_A_REPO in {one.rfilename for one in each.siblings or ()}
        ]
        releases = [_repo(each, client, everything=True) for each in found]
        sources = {_source(each, client) for each in found}
        bases = [base for each in sorted(sources) for base in _base(each, client)]
    return Showcase(tuple(releases), tuple(bases))


def _repo(info: "ModelInfo", client: Client, *, everything: bool) -> Repo:
    """Return a repo with the files that are loaded: of a base, no second copy of the weights."""
    commit = commit_of(info)
    every = files_of(client, info.id, commit)
    files = {path: file for path, file in every.items() if everything or _is_read(path)}
    return Repo(
        name=info.id,
        commit=commit,
        files=tuple(sorted(files)),
        size=_size(files),
        is_open=not info.private and not info.gated,
    )


def _is_read(path: str) -> bool:
    """Tell whether hubq reads a file of a base."""
    is_weights = "/" not in path and fnmatch(path, "*.safetensors*")
    return is_weights or path == "config.json" or is_auxiliary(path)


def _size(files: dict[str, RemoteFile]) -> int:
    return sum(each.size for each in files.values())


def _source(info: "ModelInfo", client: Client) -> str:
    """Return what a release was made from: org/name@commit, or a hash; nothing where unknown."""
    path = fetch_record(client, info.id, REPORT_IN_A_REPO, commit_of(info))
    try:
        report: Any = json.loads(path.read_bytes())
        return str(report["plan"]["source"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""  # the Space says what is wrong with it


def _base(source: str, client: Client) -> Iterator[Repo]:
    """Yield the base, if it is a repo that can be seen here."""
    try:
        name, commit = address(source)
        if "/" not in name or commit is None:
            return
        with client.translate_errors(f"looking up {name}"):
            info = client.api().model_info(name, revision=commit, expand=[*ABOUT])
            found = _repo(info, client, everything=False)
    except UserError:
        return  # a file here, gated, deleted or on another Hub: the Space says so where it matters
    yield found
