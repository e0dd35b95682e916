from threading import Event, Thread

import pytest

from hubq.errors import UserError
from serving.model_cache import Ticket, Turns


def started(turns: Turns, model: str) -> Ticket:
    ticket = turns.join(model)
    assert list(turns.places(ticket, Event())) == []
    return ticket


def first_place(turns: Turns, ticket: Ticket) -> int:
    return next(turns.places(ticket, Event()))


def test_with_a_free_turn_nobody_waits() -> None:
    ticket = started(Turns(at_once=2, waiting=4), "a")

    assert ticket.running


def test_places_are_those_in_line() -> None:
    turns = Turns(at_once=1, waiting=4)
    started(turns, "a")

    found = [first_place(turns, turns.join(model)) for model in "bcd"]

    assert found == [1, 2, 3]


def test_a_place_moves_up_as_others_leave() -> None:
    turns = Turns(at_once=1, waiting=4)
    started(turns, "a")
    second, third = turns.join("b"), turns.join("c")
    places = turns.places(third, Event())
    before = next(places)

    turns.leave(second)

    assert (before, next(places)) == (2, 1)


def test_a_turn_goes_to_the_first_in_line() -> None:
    turns = Turns(at_once=1, waiting=4)
    running = started(turns, "a")
    second, third = turns.join("b"), turns.join("c")
    first_place(turns, second)
    places = turns.places(third, Event())
    before = next(places)

    turns.leave(running)

    assert (before, list(turns.places(second, Event())), next(places)) == (2, [], 1)


def test_a_full_line_is_refused_in_words() -> None:
    turns = Turns(at_once=1, waiting=2)
    started(turns, "a")
    turns.join("b")
    turns.join("c")

    with pytest.raises(UserError, match=r"2 answers are already waiting .* Try again in a minute"):
        turns.join("d")


def test_who_waits_for_a_busy_model_lets_others_pass() -> None:
    turns = Turns(at_once=2, waiting=4)
    started(turns, "a")
    first_place(turns, turns.join("a"))

    other = started(turns, "b")

    assert other.running


def test_who_is_not_prepared_lets_others_pass() -> None:
    turns = Turns(at_once=1, waiting=4)
    turns.join("a")  # is still being downloaded

    assert started(turns, "b").running


def test_a_stop_ends_the_waiting() -> None:
    turns = Turns(at_once=1, waiting=4)
    started(turns, "a")
    ticket, stop = turns.join("b"), Event()
    waiting = Thread(target=lambda: list(turns.places(ticket, stop)))
    waiting.start()

    stop.set()
    waiting.join(5)

    assert not waiting.is_alive()
    assert not ticket.running


def test_who_leaves_frees_the_place() -> None:
    turns = Turns(at_once=1, waiting=1)
    started(turns, "a")
    turns.leave(turns.join("b"))

    assert first_place(turns, turns.join("c")) == 1
