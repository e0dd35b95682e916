"""A list costs what it shows: the files of other repos are left alone."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from faulty_hub import FaultyHub
from huggingface_hub import CommitOperationAdd, HfApi


class Reads:
    """Notes which files below a folder are opened, by Python's own audit events."""

    def __init__(self) -> None:
        self.root: str | None = None
        self.files: list[Path] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or self.root is None or isinstance(arguments[0], int):
            return
        path = os.fsdecode(arguments[0])
        if path.startswith(self.root):
            self.files.append(Path(path))

    def repos(self) -> set[str]:
        return {part for path in self.files for part in path.parts if part.endswith(".git")}


READS = Reads()
sys.addaudithook(READS)  # which can't be taken back, so there is one for all tests


@pytest.fixture
def reads(hub: FaultyHub) -> Iterator[Reads]:
    READS.root, READS.files = str(hub.root), []
    yield READS
    READS.root = None


@pytest.fixture
def many(api: HfApi) -> list[str]:
    """Make a dozen repos, newest first."""
    return [str(api.create_repo(f"acme/{number}").repo_id) for number in range(12)][::-1]


def ids(answer: httpx.Response) -> list[str]:
    return [model["id"] for model in answer.json()]


def test_a_page_describes_its_own_repos_only(
    http: httpx.Client, many: list[str], reads: Reads
) -> None:
    answer = http.get("/api/models", params={"limit": 5})

    assert ids(answer) == many[:5]
    assert len(reads.repos()) == 5


def test_pages_together_are_the_whole_list(http: httpx.Client, many: list[str]) -> None:
    first = http.get("/api/models", params={"limit": 7})

    second = http.get(first.links["next"]["url"])

    assert ids(first) + ids(second) == many
    assert "next" not in second.links


def test_names_are_compared_before_anything_is_read(
    http: httpx.Client, many: list[str], reads: Reads
) -> None:
    http.get("/api/models", params={"search": "11"})
    http.get("/api/models", params={"author": "nobody"})

    assert len(reads.repos()) == 1


def test_sorting_by_the_last_change_reads_heads_only(
    http: httpx.Client, many: list[str], reads: Reads
) -> None:
    answer = http.get("/api/models", params={"sort": "lastModified", "limit": 1})

    objects = [path for path in reads.files if "objects" in path.parts]
    assert len(ids(answer)) == 1
    assert len(objects) < 2 * len(many)


def test_a_filter_goes_on_behind_what_it_leaves_out(
    api: HfApi, http: httpx.Client, many: list[str]
) -> None:
    for repo in (many[2], many[9]):
        card = b"---\ntags: [tiny]\n---\n"
        api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo)

    first = http.get("/api/models", params={"filter": "tiny", "limit": 1})
    second = http.get(first.links["next"]["url"])

    assert (ids(first), ids(second)) == ([many[2]], [many[9]])
    assert [model.id for model in api.list_models(filter="tiny")] == [many[2], many[9]]


def test_a_repo_whose_history_is_gone_breaks_no_list(
    hub: FaultyHub, http: httpx.Client, many: list[str]
) -> None:
    for history in sorted((hub.root / "repos").glob("*.git"))[:3]:
        history.rename(hub.root / history.name)

    assert len(ids(http.get("/api/models"))) == len(many) - 3


def test_a_page_of_a_tree_reads_its_own_files_only(
    api: HfApi, repo: str, http: httpx.Client, reads: Reads
) -> None:
    adds = [CommitOperationAdd(f"{number}.txt", f"{number}".encode()) for number in range(30)]
    api.create_commit(repo, adds, commit_message="Many")
    reads.files.clear()

    rows = http.get(f"/api/models/{repo}/tree/main", params={"limit": 4}).json()

    assert [row["path"] for row in rows] == [".gitattributes", "0.txt", "1.txt", "10.txt"]
    assert len({path for path in reads.files if "objects" in path.parts}) < 10
