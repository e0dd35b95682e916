import socket
import time
from pathlib import Path
from threading import Thread

import pytest
from faulty_hub import FaultyHub, refuse
from made_models import full_report

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy
from releases.catalogue import FRESH, LIFETIME, Catalogue, Sources
from releases.models import Problem, Released


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalogue(client: Client, clock: Clock, releases: tuple[str, str]) -> Catalogue:
    return Catalogue(Sources(org="acme"), client, clock=clock)


def test_a_list_is_not_asked_for_again_while_it_is_young(
    catalogue: Catalogue, clock: Clock
) -> None:
    first = catalogue.listing()
    clock.now += LIFETIME

    assert catalogue.listing() is first


def test_an_old_list_is_asked_for_again(
    catalogue: Catalogue, clock: Clock, client: Client, releases: tuple[str, str]
) -> None:
    catalogue.listing()
    client.api().delete_repo(releases[0])
    clock.now += LIFETIME + 1

    assert releases[0] not in {each.name for each in catalogue.listing().models}


def test_a_list_that_is_wanted_anew_is_asked_for_at_most_every_few_seconds(
    catalogue: Catalogue, clock: Clock
) -> None:
    first = catalogue.listing()

    assert catalogue.listing(anew=True) is first
    clock.now += FRESH + 1
    assert catalogue.listing(anew=True) is not first


def test_a_model_is_picked_by_its_name(catalogue: Catalogue, releases: tuple[str, str]) -> None:
    picked = catalogue.pick(releases[0])

    assert isinstance(picked, Released)
    assert picked.name == releases[0]


def test_a_model_that_came_since_is_found(
    catalogue: Catalogue, clock: Clock, client: Client, releases: tuple[str, str]
) -> None:
    catalogue.listing()
    client.api().move_repo(releases[0], "acme/Newer")
    clock.now += FRESH + 1

    assert isinstance(catalogue.pick("acme/Newer"), Released)


def test_a_model_that_was_deleted_is_a_sentence(
    catalogue: Catalogue, clock: Clock, client: Client, releases: tuple[str, str]
) -> None:
    catalogue.listing()
    client.api().delete_repo(releases[0])
    clock.now += LIFETIME + 1

    picked = catalogue.pick(releases[0])

    assert isinstance(picked, Problem)
    assert f"{releases[0]} is not here any more" in picked.sentence


def test_what_was_known_stays_when_the_hub_does_not_answer(
    catalogue: Catalogue, clock: Clock, hub: FaultyHub, releases: tuple[str, str]
) -> None:
    before = catalogue.listing()
    hub.faults.add(refuse("GET", "/api/models", 403, times=9))
    clock.now += LIFETIME + 1

    after = catalogue.listing()

    assert {each.name for each in after.models} == {each.name for each in before.models}
    assert "does not allow this" in after.problems[0].sentence
    assert "What was known of acme before is shown" in after.problems[1].sentence


def test_a_hub_that_answers_again_is_believed(
    catalogue: Catalogue, clock: Clock, hub: FaultyHub
) -> None:
    catalogue.listing()
    hub.faults.add(refuse("GET", "/api/models", 403, times=2))
    clock.now += LIFETIME + 1
    catalogue.listing()
    clock.now += LIFETIME + 1

    assert not catalogue.listing().problems


def test_a_folder_that_is_gone_is_no_longer_shown(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "card").mkdir()
    full_report().save(tmp_path / "card" / "report.json")
    catalogue = Catalogue(
        Sources(names=(str(tmp_path),)), Client("http://127.0.0.1:9"), clock=clock
    )
    assert catalogue.listing().models
    (tmp_path / "card" / "report.json").unlink()
    clock.now += LIFETIME + 1

    assert not catalogue.listing().models


def test_nobody_waits_while_somebody_else_asks(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_report().save(tmp_path / "report.json")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and never answers
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", retries=RetryPolicy(tries=1))
        catalogue = Catalogue(Sources("acme", (str(tmp_path),)), client, clock=clock)
        monkeypatch.setattr("releases.catalogue.KNOCKING", 0.1)
        first = catalogue.listing()
        monkeypatch.setattr("releases.catalogue.KNOCKING", 2.0)
        clock.now += LIFETIME + 1
        asking = Thread(target=catalogue.listing)
        asking.start()
        time.sleep(0.5)

        second = catalogue.listing()

        assert asking.is_alive()
        assert second is first
        asking.join()
