"""What follows a publishing, and what becomes of it where that may not be done."""

from pathlib import Path

import pytest
from faulty_hub import FaultyHub, refuse
from made_run import REPO, make_run
from unloaded import publish

from hubq.client.client import Client
from hubq.records.report import Report
from hubq.stages.publish.afterwards import Followed, Wishes, follow_up
from hubq.stages.publish.publish import Publication
from hubq.stages.publish.row_requests import Renewed

OTHER = "acme/Tiny-Llama-GPTQ-3bit"
Published = dict[str, tuple[Publication, Report]]


def quiet(sentence: str) -> None:
    raise AssertionError(sentence)


@pytest.fixture
def published(client: Client, tmp_path: Path) -> Published:
    """Publish two releases of a base, and tell of the second."""
    run, other = tmp_path / "run", tmp_path / "other"
    publish(make_run(run), run, client)
    report = make_run(other, OTHER, seed=1)
    return {OTHER: (publish(report, other, client), report)}


def test_a_release_is_collected_and_gets_its_row(client: Client, published: Published) -> None:
    found = follow_up(published, Wishes(), client, quiet)

    (slug,) = (each.slug for each in client.api().list_collections(owner="acme"))
    where = f"{client.url}/{REPO}/discussions/2"
    assert found == Followed(
        f"{client.url}/collections/{slug}", [Renewed(repo=REPO, done="proposed", where=where)]
    )
    assert {each.item_id for each in client.api().get_collection(slug).items} == {REPO, OTHER}


def test_nothing_follows_that_nobody_wants(
    client: Client, hub: FaultyHub, published: Published
) -> None:
    hub.faults.clear()

    found = follow_up(published, Wishes(collection=False, rows="leave"), client, quiet)

    assert (found, hub.faults.requests()) == (Followed(), [])


@pytest.mark.parametrize("status", [403, 404, 500])
def test_what_may_not_be_done_is_told_with_the_way_out_and_fails_nothing(
    client: Client, hub: FaultyHub, published: Published, status: int
) -> None:
    hub.faults.add(refuse("POST", "/api/collections", status, times=99))

    found = follow_up(published, Wishes(rows="leave"), client, quiet)

    (undone,) = found.undone
    assert undone.startswith(f"adding {OTHER} to a collection of acme failed: ")
    assert f"{OTHER} is published. To add it" in undone


def test_a_hub_that_lists_nothing_is_told(
    client: Client, hub: FaultyHub, published: Published
) -> None:
    hub.faults.add(refuse("GET", "/api/models$", 500, times=99))

    found = follow_up(published, Wishes(), client, quiet)

    assert found.undone[0].startswith("the other releases of meta-llama/Meta-Llama-3-8B were not")


def test_a_damaged_report_of_another_release_stops_nothing(
    client: Client, published: Published, tmp_path: Path
) -> None:
    told: list[str] = []
    report = (tmp_path / "run" / "hubq" / "report.json").read_text()
    damaged = report.replace('"format": "compressed-tensors"', '"form": []').encode()
    client.api().upload_file(path_or_fileobj=damaged, path_in_repo="hubq/report.json", repo_id=REPO)

    found = follow_up(published, Wishes(), client, told.append)

    assert (found.rows, found.undone) == ([], [])
    assert told == [
        f"{REPO} is left out of the related models: its report can't be understood ('format')"
    ]
