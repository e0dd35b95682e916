import logging
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from faulty_hub import FaultyHub, faulty_hub

from hubq.client.client import Client
from hubq.errors import UserError
from votes.ballots import Ballots, Vote
from votes.storage import VoteBook, VoteRepo

REPO = "acme/votes"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyHub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with faulty_hub(tmp_path / "hub", user="ann", org="acme") as running:
        yield running


def archive(hub: FaultyHub, folder: Path) -> VoteRepo:
    return VoteRepo(REPO, folder, Client(hub.endpoint, hub.token), minutes=10)


def vote() -> Vote:
    ballot = Ballots(random=Random(0)).draw("acme/a", "acme/b", {}, "Hi")
    return Vote.on(ballot, "left", with_prompt=False)


def test_a_restart_on_another_disk_loses_nothing(hub: FaultyHub, tmp_path: Path) -> None:
    votes = [vote() for _ in range(3)]
    for number in range(2):  # two lives of the Space, on disks of their own
        repo = archive(hub, tmp_path / f"export-{number}")
        book = VoteBook(tmp_path / f"{number}.sqlite", repo)
        book.add(votes[number])
        repo.close()

    repo = archive(hub, tmp_path / "export-2")
    book = VoteBook(tmp_path / "2.sqlite", repo)

    repo.close()
    assert book.votes() == votes[:2]


def test_a_restart_on_the_same_disk_counts_nothing_twice(hub: FaultyHub, tmp_path: Path) -> None:
    kept = vote()
    repo = archive(hub, tmp_path / "export")
    VoteBook(tmp_path / "votes.sqlite", repo).add(kept)
    repo.close()

    repo = archive(hub, tmp_path / "export")
    book = VoteBook(tmp_path / "votes.sqlite", repo)

    repo.close()
    assert book.votes() == [kept]


def test_the_repo_is_a_private_data_set(hub: FaultyHub, tmp_path: Path) -> None:
    archive(hub, tmp_path / "export").close()

    info = Client(hub.endpoint, hub.token).api().dataset_info(REPO)

    assert info.private


def test_a_line_that_is_no_vote_is_left_out(
    hub: FaultyHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repo = archive(hub, tmp_path / "export")
    repo.append(vote())
    (tmp_path / "export/hand.jsonl").write_text('{"choice": "mine"}\n')
    repo.close()

    repo = archive(hub, tmp_path / "export-2")
    with caplog.at_level(logging.WARNING):
        found = repo.votes()

    repo.close()
    assert len(found) == 1
    assert "is no vote of this version" in caplog.text


def test_without_access_it_is_said_in_words(hub: FaultyHub, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="opening the votes in acme/votes failed"):
        VoteRepo(REPO, tmp_path / "export", Client(hub.endpoint, "hf_wrong"))
