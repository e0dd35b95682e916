from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from faulty_hub import FaultyHub
from made_models import made_model

from hubq.client.client import Client
from hubq.errors import UserError
from page.vote_tab import drawn
from releases.models import Listing, Released, base_of
from votes.storage import open_votes

NAMES = ("acme/A", "acme/B", "acme/C")


@pytest.fixture
def models() -> tuple[Released, ...]:
    made = [made_model(name) for name in NAMES]
    return (base_of(made[0], None), *made)


def names_of(pair: list[Released]) -> set[str]:
    return {each.name for each in pair}


def test_two_of_the_chosen_models_are_drawn(models: tuple[Released, ...]) -> None:
    pairs = [drawn(Listing(models, ()), ["acme/A", "acme/C"], Random(n)) for n in range(9)]

    assert all(names_of(pair) == {"acme/A", "acme/C"} for pair in pairs)


def test_without_a_choice_any_two_of_a_family_are_drawn(models: tuple[Released, ...]) -> None:
    pairs = [drawn(Listing(models, ()), [], Random(n)) for n in range(30)]

    assert set().union(*map(names_of, pairs)) == {each.name for each in models}


def test_models_without_weights_are_never_drawn(models: tuple[Released, ...]) -> None:
    only_reports = Listing(tuple(replace(each, weights=None) for each in models), ())

    with pytest.raises(UserError, match="fewer than two models here can answer"):
        drawn(only_reports, [])


def test_votes_are_kept_in_a_file_of_this_machine(own_cache: Path) -> None:
    votes = open_votes({}, Client())

    assert votes.book.path == own_cache / "space" / "votes.sqlite"
    assert votes.note == ""


def test_a_space_without_a_repo_says_that_it_forgets() -> None:
    votes = open_votes({"SPACE_ID": "acme/compare"}, Client())

    assert "until this Space restarts" in votes.note


def test_votes_are_kept_in_the_repo_that_a_setting_names(hub: FaultyHub, client: Client) -> None:
    votes = open_votes({"HUBQ_SPACE_VOTES": "acme/votes"}, client)

    assert votes.note == ""
    assert client.api().repo_exists("acme/votes", repo_type="dataset")


def test_a_repo_that_can_not_be_written_is_said(hub: FaultyHub, stranger: Client) -> None:
    votes = open_votes({"HUBQ_SPACE_VOTES": "acme/votes"}, stranger)

    assert "since acme/votes can't be used" in votes.note
    assert votes.book.votes() == []
