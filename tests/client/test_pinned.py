"""A pull stays at its commit until it is told to move, and says when main has."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from faulty_hub import FaultyHub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from hubq.cli import cli
from hubq.client.client import Client
from hubq.client.pinned import bring
from hubq.errors import UserError

REPO = "acme/model"


@pytest.fixture
def first(client: Client) -> str:
    """A repo of two files; return its commit."""
    client.api().create_repo(REPO)
    return commit(client, add={"config.json": b"{}", "old.json": b"[]"})


def commit(client: Client, add: dict[str, bytes], delete: tuple[str, ...] = ()) -> str:
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationAdd(path, content) for path, content in add.items()),
        *(CommitOperationDelete(path) for path in delete),
    ]
    return client.api().create_commit(REPO, operations, commit_message="Change").oid


def second(client: Client, delete: tuple[str, ...] = ("old.json",)) -> str:
    changed = {"config.json": b'{"a": 1}', "CHANGELOG.md": b"# Changelog"}
    return commit(client, changed, delete)


@pytest.mark.parametrize("named", [True, False], ids=["a folder", "the cache"])
def test_a_second_pull_stays_at_its_commit_and_says_that_main_has_moved(
    client: Client, first: str, tmp_path: Path, named: bool
) -> None:
    folder = tmp_path / "here" if named else None
    before = bring(REPO, folder, client)
    client.api().create_tag(REPO, tag="v1", revision=first)
    newer = second(client)

    again = bring(REPO, folder, client)

    assert (before.commit, before.moved) == (first, None)
    assert (again.commit, again.folder) == (first, before.folder)
    assert (again.folder / "config.json").read_text() == "{}"
    assert f"{first[:12]}, tag v1 → {newer[:12]}; CHANGELOG.md" in str(again.moved)


def test_an_update_brings_the_newer_and_removes_what_only_the_older_had(
    client: Client, first: str, tmp_path: Path
) -> None:
    folder = tmp_path / "here"
    bring(REPO, folder, client)
    (folder / "mine.txt").write_text("mine")
    newer = second(client)

    brought = bring(REPO, folder, client, update=True)

    assert (brought.commit, brought.moved) == (newer, None)
    assert (folder / "config.json").read_text() == '{"a": 1}'
    kept = {path.name for path in folder.iterdir()}
    assert kept == {".cache", ".gitattributes", "CHANGELOG.md", "config.json", "mine.txt"}


def test_a_file_that_was_changed_here_is_not_removed(
    client: Client, first: str, tmp_path: Path
) -> None:
    bring(REPO, tmp_path / "here", client)
    (tmp_path / "here/old.json").write_text("mine")
    second(client)

    bring(REPO, tmp_path / "here", client, update=True)

    assert (tmp_path / "here/old.json").read_text() == "mine"


def test_a_revision_that_is_named_is_brought(client: Client, first: str, tmp_path: Path) -> None:
    newer = second(client)
    folder = tmp_path / "here"
    bring(f"{REPO}@{first}", folder, client)

    assert bring(REPO, folder, client).commit == first
    assert bring(f"{REPO}@main", folder, client).commit == newer
    assert bring(REPO, folder, client).moved is None


def test_a_commit_that_is_gone_is_told(client: Client, first: str, tmp_path: Path) -> None:
    bring(REPO, tmp_path / "here", client)
    client.api().delete_repo(REPO)
    client.api().create_repo(REPO)
    second(client, delete=())

    with pytest.raises(UserError, match=rf"no longer holds {first[:12]}(.|\n)*--update"):
        bring(REPO, tmp_path / "here", client)

    assert bring(REPO, tmp_path / "here", client, update=True).moved is None


def test_what_another_repo_brought_pins_nothing(client: Client, first: str, tmp_path: Path) -> None:
    place = tmp_path / "here/.cache/hubq/pulled.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"endpoint": client.url, "repo": "acme/x", "commit": "0" * 40}))

    assert bring(REPO, tmp_path / "here", client).commit == first


def test_the_command_tells_the_commit(
    hub: FaultyHub, first: str, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    asked = ["pull", REPO, str(tmp_path / "here"), "--hub", hub.endpoint, "--json"]
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    CliRunner().invoke(cli, asked, catch_exceptions=False)
    newer = second(client)

    done = CliRunner().invoke(cli, asked, catch_exceptions=False)

    told = json.loads(done.stdout)
    assert (told["commit"], told["moved"]) == (
        first,
        {"main": newer, "tags": [], "changelog": True},
    )
    assert "has moved since" in done.stderr
