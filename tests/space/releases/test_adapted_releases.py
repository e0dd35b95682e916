"""What a recipe adapted, in the Space: a model of its own on this machine, numbers on a Hub."""

from pathlib import Path

from made_adaptation import OWN_REPO, make_adapted
from made_run import REPO, make_run
from unloaded import publish_adapted

from hubq.client.client import Client
from releases.catalogue import Sources, find
from releases.models import ONLY_NUMBERS


def test_a_run_folder_shows_its_adapted_model_too(tmp_path: Path, client: Client) -> None:
    run = tmp_path / "run"
    make_adapted(run, make_run(run))

    models = {each.name: each for each in find(Sources(names=(str(run),)), client).models}

    weights = models[OWN_REPO].weights
    assert weights is not None
    assert weights.folder == run / "adapted" / "model"
    assert models[REPO].weights is not None


def test_an_adapter_on_a_hub_has_numbers_and_answers_nothing(
    tmp_path: Path, client: Client
) -> None:
    run = tmp_path / "run"
    publish_adapted(make_adapted(run, make_run(run)), run, client)

    listing = find(Sources(names=(OWN_REPO, REPO)), client)

    assert listing.problems == ()
    assert (f"{OWN_REPO}{ONLY_NUMBERS}", OWN_REPO) in listing.choices
    assert (REPO, REPO) in listing.choices
