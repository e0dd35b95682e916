import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from hubq.errors import UserError
from votes.ballots import CHOICES, Ballots, Choice, Standing, Vote, leaderboard, wilson
from votes.storage import VoteBook


def vote(choice: Choice = "left", *, with_prompt: bool = False) -> Vote:
    ballot = Ballots(random=Random(0)).draw("acme/a", "acme/b", {"seed": 3}, "What is a llama?")
    return Vote.on(ballot, choice, with_prompt=with_prompt)


def between(left: str, right: str, choice: Choice) -> Vote:
    return vote(choice).model_copy(update={"left": left, "right": right})


@pytest.fixture
def book(tmp_path: Path) -> VoteBook:
    return VoteBook(tmp_path / "votes/votes.sqlite")


def test_votes_come_back_in_their_order(book: VoteBook) -> None:
    votes = [vote(choice) for choice in CHOICES]
    for each in votes:
        book.add(each)

    assert VoteBook(book.path).votes() == votes


def test_a_kept_line_of_another_shape_hides_no_vote(book: VoteBook) -> None:
    first = vote()
    book.add(first)
    with closing(sqlite3.connect(book.path)) as database, database:
        database.execute("INSERT INTO votes VALUES ('old', '{\"winner\": \"left\"}')")

    assert book.votes() == [first]


def test_votes_that_can_not_be_read_are_refused_in_words(book: VoteBook) -> None:
    book.path.write_bytes(b"no database" * 100)

    with pytest.raises(UserError, match="the votes can't be read now"):
        book.votes()


def test_a_vote_counts_though_the_archive_is_full(tmp_path: Path) -> None:
    class Full:
        def append(self, vote: Vote) -> None:
            raise OSError("no space left on device")

        def votes(self) -> list[Vote]:
            return []

    book = VoteBook(tmp_path / "votes.sqlite", Full())
    book.add(first := vote())

    assert book.votes() == [first]


def test_a_second_vote_on_a_comparison_is_refused_in_words(book: VoteBook) -> None:
    first = vote("left")
    book.add(first)

    with pytest.raises(UserError, match="already has a vote"):
        book.add(first.model_copy(update={"choice": "right"}))

    assert book.votes() == [first]


def test_of_many_votes_at_once_on_a_comparison_one_counts(book: VoteBook) -> None:
    same = vote()

    def add(_: int) -> bool:
        try:
            book.add(same)
        except UserError:
            return False
        return True

    with ThreadPoolExecutor(8) as executor:
        assert sorted(executor.map(add, range(8))) == [False] * 7 + [True]


def test_a_prompt_is_kept_only_with_consent() -> None:
    assert vote().prompt is None
    assert vote(with_prompt=True).prompt == "What is a llama?"


def test_a_vote_is_one_of_four() -> None:
    wrong: Any = "both good"

    with pytest.raises(ValidationError):
        vote(wrong)


def test_the_order_of_the_sides_is_kept(book: VoteBook) -> None:
    book.add(vote())

    found = book.votes()[0]

    assert {found.left, found.right} == {"acme/a", "acme/b"}
    assert found.settings == {"seed": 3}


def test_a_leaderboard_counts_ties_half() -> None:
    votes = [
        between("a", "b", "left"),
        between("b", "a", "right"),
        between("a", "b", "tie"),
        between("b", "a", "both bad"),
    ]

    first, second = leaderboard(votes)

    assert first == Standing(
        model="a",
        votes=4,
        wins=2,
        losses=0,
        ties=1,
        both_bad=1,
        rate=0.75,
        low=first.low,
        high=first.high,
    )
    assert (second.model, second.rate, second.losses) == ("b", 0.25, 2)


def test_without_votes_nobody_leads() -> None:
    assert leaderboard([]) == []


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    # The last is Newcombe's example (1998); 0 of n ends at z^2 / (n + z^2).
    [
        (5, 10, 0.2366, 0.7634),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_intervals_are_wilsons(successes: float, total: int, low: float, high: float) -> None:
    assert wilson(successes, total) == pytest.approx((low, high), abs=5e-4)


def test_more_votes_make_a_narrower_interval() -> None:
    few = leaderboard([between("a", "b", "left")] * 5)[0]
    many = leaderboard([between("a", "b", "left")] * 50)[0]

    assert many.high - many.low < few.high - few.low
