from random import Random

import pytest

from hubq.errors import UserError
from votes.ballots import Ballot, Ballots

ONE, OTHER = "acme/one", "acme/other"


def drawn(ballots: Ballots) -> Ballot:
    return ballots.draw(ONE, OTHER, {}, "What is a llama?")


def test_both_orders_are_drawn_about_equally_often() -> None:
    ballots = Ballots(random=Random(0))

    left = [drawn(ballots).left for _ in range(200)]

    assert 80 < left.count(ONE) < 120


def test_the_same_generator_draws_the_same_sides() -> None:
    first, second = (
        [drawn(ballots).left for _ in range(20)]
        for ballots in (Ballots(random=Random(1)), Ballots(random=Random(1)))
    )

    assert first == second


def test_by_default_nobody_can_foresee_the_sides() -> None:
    assert type(Ballots()._random).__name__ == "SystemRandom"


def test_an_id_says_nothing_of_the_models() -> None:
    ballots = Ballots(random=Random(0))

    ids = {drawn(ballots).id for _ in range(100)}

    assert len(ids) == 100
    assert all(len(id) == 24 and "acme" not in id for id in ids)


def test_an_open_comparison_is_found_by_its_id() -> None:
    ballots = Ballots()
    ballot = drawn(ballots)

    assert ballots.find(ballot.id) == ballot


def test_a_closed_comparison_is_refused_in_words() -> None:
    ballots = Ballots()
    ballot = drawn(ballots)

    ballots.close(ballot.id)

    with pytest.raises(UserError, match="this comparison is over"):
        ballots.find(ballot.id)


def test_a_comparison_expires() -> None:
    now = [0.0]
    ballots = Ballots(seconds=60, clock=lambda: now[0])
    ballot = drawn(ballots)

    now[0] = 61

    with pytest.raises(UserError, match="waited too long"):
        ballots.find(ballot.id)


def test_the_oldest_gives_way_to_the_newest() -> None:
    ballots = Ballots(most=2)

    first, second, third = (drawn(ballots) for _ in range(3))

    assert ballots.find(third.id)
    assert ballots.find(second.id)
    with pytest.raises(UserError):
        ballots.find(first.id)


def test_a_model_is_not_compared_with_itself() -> None:
    with pytest.raises(UserError, match="with itself"):
        Ballots().draw(ONE, ONE, {}, "Hi")
