"""The command that renews the tables of related releases."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from faulty_hub import FaultyHub, refuse
from made_run import REPO, make_run
from unloaded import publish

from hubq.cli import cli
from hubq.client.client import Client

OTHER = "acme/Tiny-Llama-GPTQ-3bit"


def siblings(hub: FaultyHub, *options: str) -> Result:
    return CliRunner().invoke(cli, ["siblings", "acme", "--hub", hub.endpoint, *options])


@pytest.fixture
def family(hub: FaultyHub, tmp_path: Path) -> None:
    """Publish two releases, neither of which knows of the other."""
    for seed, repo in enumerate((REPO, OTHER)):
        run = tmp_path / str(seed)
        publish(make_run(run, repo, seed=seed), run, Client(hub.endpoint, hub.token))


@pytest.mark.usefixtures("family")
def test_all_cards_of_an_organization_are_renewed_and_then_up_to_date(hub: FaultyHub) -> None:
    first = siblings(hub, "--commit", "--json")

    second = siblings(hub)

    assert [each["done"] for each in json.loads(first.stdout)["siblings"]] == ["committed"] * 2
    assert second.stdout.splitlines() == [
        f"card of {OTHER} is up to date",
        f"card of {REPO} is up to date",
    ]
    assert (first.exit_code, second.exit_code) == (0, 0)


@pytest.mark.usefixtures("family")
def test_a_card_that_could_not_be_renewed_is_exit_code_1(hub: FaultyHub) -> None:
    hub.faults.add(refuse("POST", f"/{REPO}/commit", 403, times=9))

    done = siblings(hub)

    other, this = done.stdout.split("\ncard of ")
    assert other == f"card of {OTHER} has a pull request: {hub.endpoint}/{OTHER}/discussions/2"
    assert this.startswith(f"{REPO} was left alone: renewing the card of {REPO} failed: ")
    assert done.exit_code == 1


def test_an_organization_without_releases_is_said_so(hub: FaultyHub) -> None:
    assert siblings(hub).stdout == "acme has no releases of hubq\n"
