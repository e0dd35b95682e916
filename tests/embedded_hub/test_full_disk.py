"""A disk that is full leaves nothing half made, and a restart nothing behind."""

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from faulty_hub import FaultyHub, faulty_hub
from huggingface_hub import HfApi

from hubq.embedded_hub.serving import Running, write_note


class FullDisk:
    """Lets the n-th write below a folder fail as on a full disk, by Python's own audit events."""

    def __init__(self) -> None:
        self.root = ""
        self.left: int | None = None  # writes until one fails; None: all succeed

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.left is None or event not in ("open", "os.mkdir", "os.rename", "sqlite3.connect"):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if isinstance(arguments[0], int) or not os.fsdecode(arguments[0]).startswith(self.root):
            return
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


DISK = FullDisk()
sys.addaudithook(DISK)  # which can't be taken back, so there is one for all tests


@pytest.fixture
def disk(hub: FaultyHub) -> Iterator[FullDisk]:
    DISK.root = str(hub.root)
    yield DISK
    DISK.left = None


def until_it_works(disk: FullDisk, ask: Any, check: Any) -> int:
    """Let each write of a request fail once, in turn; return how many there were."""
    for number in range(1, 200):
        disk.left = number
        answer: httpx.Response = ask()
        worked, disk.left = disk.left > 0, None
        if worked:
            assert answer.status_code == 200
            return number - 1
        assert answer.status_code == 507, (number, answer.text)
        assert "disk is full" in answer.json()["error"]
        check()
    raise AssertionError("it never worked")


def test_a_repo_is_made_wholly_or_not_at_all(
    hub: FaultyHub, http: httpx.Client, disk: FullDisk
) -> None:
    variable = {"key": "A", "value": "b"}
    body = {"name": "x", "type": "space", "sdk": "static", "variables": [variable]}

    def check() -> None:
        assert http.get("/api/spaces").json() == []
        assert list((hub.root / "repos").rglob("*.git")) == []

    writes = until_it_works(disk, lambda: http.post("/api/repos/create", json=body), check)

    assert writes > 10
    assert list(http.get("/api/spaces/local/x/variables").json()) == ["A"]


def test_a_copy_of_a_repo_is_made_wholly_or_not_at_all(
    hub: FaultyHub, http: httpx.Client, disk: FullDisk, repo: str
) -> None:
    def check() -> None:
        assert [model["id"] for model in http.get("/api/models").json()] == [repo]
        assert len(list((hub.root / "repos").rglob("*.git"))) == 1

    ask = "/api/models/acme/model/duplicate", {"repository": "local/copy"}
    writes = until_it_works(disk, lambda: http.post(ask[0], json=ask[1]), check)

    assert writes > 10


@pytest.mark.parametrize("query", ["", "?create_pr=1"])
def test_a_commit_lands_wholly_or_not_at_all(
    http: httpx.Client, disk: FullDisk, repo: str, query: str
) -> None:
    lines = (
        '{"key": "header", "value": {"summary": "s"}}\n'
        '{"key": "file", "value": {"path": "d/a.txt", "content": "aGk=", "encoding": "base64"}}'
    )
    place = f"/api/models/{repo}"
    head = http.get(place).json()["sha"]

    def check() -> None:
        assert http.get(place).json()["sha"] == head
        assert http.get(f"{place}/refs?include_prs=1").json()["pullRequests"] == []
        assert http.get(f"{place}/discussions").json()["count"] == 0

    writes = until_it_works(
        disk, lambda: http.post(f"{place}/commit/main{query}", content=lines), check
    )

    assert writes > 3


def test_what_a_killed_server_left_behind_goes_at_the_next_start(tmp_path: Path) -> None:
    with faulty_hub(tmp_path) as hub:
        HfApi(endpoint=hub.endpoint, token=hub.token).create_repo("local/kept")
    (kept,) = (tmp_path / "repos").glob("*.git")
    lock, unlisted = kept / "objects" / "ab" / "c.lock", tmp_path / "repos" / "dead.git"
    for folder in (lock.parent, unlisted, tmp_path / "repos" / "incoming" / "draft.git"):
        folder.mkdir(parents=True, exist_ok=True)
    lock.touch()
    write_note(tmp_path, Running(1, "http://127.0.0.1:9", "killed"))

    with faulty_hub(tmp_path):
        left = {
            path.name
            for path in (tmp_path / "repos").rglob("*")
            if path.suffix in (".git", ".lock")
        }

    assert left == {kept.name}
