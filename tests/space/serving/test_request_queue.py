from threading import Event, Thread

import pytest

from hubq.errors import UserError
from serving.model_cache import QueueEntry, RequestQueue


def started(queue: RequestQueue, model: str) -> QueueEntry:
    entry = queue.join(model)
    assert list(queue.places(entry, Event())) == []
    return entry


def first_place(queue: RequestQueue, entry: QueueEntry) -> int:
    return next(queue.places(entry, Event()))


def test_with_a_free_turn_nobody_waits() -> None:
    entry = started(RequestQueue(at_once=2, waiting=4), "a")

    assert entry.running


def test_places_are_those_in_line() -> None:
    queue = RequestQueue(at_once=1, waiting=4)
    started(queue, "a")

    found = [first_place(queue, queue.join(model)) for model in "bcd"]

    assert found == [1, 2, 3]


def test_a_place_moves_up_as_others_leave() -> None:
    queue = RequestQueue(at_once=1, waiting=4)
    started(queue, "a")
    second, third = queue.join("b"), queue.join("c")
    places = queue.places(third, Event())
    before = next(places)

    queue.leave(second)

    assert (before, next(places)) == (2, 1)


def test_a_turn_goes_to_the_first_in_line() -> None:
    queue = RequestQueue(at_once=1, waiting=4)
    running = started(queue, "a")
    second, third = queue.join("b"), queue.join("c")
    first_place(queue, second)
    places = queue.places(third, Event())
    before = next(places)

    queue.leave(running)

    assert (before, list(queue.places(second, Event())), next(places)) == (2, [], 1)


def test_a_full_line_is_refused_in_words() -> None:
    queue = RequestQueue(at_once=1, waiting=2)
    started(queue, "a")
    queue.join("b")
    queue.join("c")

    with pytest.raises(UserError, match=r"2 answers are already waiting .* Try again in a minute"):
        queue.join("d")


def test_who_waits_for_a_busy_model_lets_others_pass() -> None:
    queue = RequestQueue(at_once=2, waiting=4)
    started(queue, "a")
    first_place(queue, queue.join("a"))

    other = started(queue, "b")

    assert other.running


def test_who_is_not_prepared_lets_others_pass() -> None:
    queue = RequestQueue(at_once=1, waiting=4)
    queue.join("a")  # is still being downloaded

    assert started(queue, "b").running


def test_a_stop_ends_the_waiting() -> None:
    queue = RequestQueue(at_once=1, waiting=4)
    started(queue, "a")
    entry, stop = queue.join("b"), Event()
    waiting = Thread(target=lambda: list(queue.places(entry, stop)))
    waiting.start()

    stop.set()
    waiting.join(5)

    assert not waiting.is_alive()
    assert not entry.running


def test_who_leaves_frees_the_place() -> None:
    queue = RequestQueue(at_once=1, waiting=1)
    started(queue, "a")
    queue.leave(queue.join("b"))

    assert first_place(queue, queue.join("c")) == 1
