from collections.abc import Iterator
from functools import partial
from threading import Thread
from time import monotonic

from page.events import BLIND, COMPARE, SETTLING, Stops, Tab
from serving.streams import Watch

ANN, BOB = Tab("ann", COMPARE), Tab("bob", COMPARE)


def counting(watch: Watch) -> Iterator[str]:
    yield from "abc"


def streamed(stops: Stops, click: int, *, replaces: bool = True) -> Iterator[str]:
    return stops.stream(ANN, click, counting, "nothing", replaces=replaces)


def test_a_stop_is_for_one_tab_of_one_visitor() -> None:
    stops = Stops()

    with stops.watch(ANN) as hers, stops.watch(BOB) as his, stops.watch(Tab("ann", BLIND)) as blind:
        stops.stop(ANN)

        assert [each.stop.is_set() for each in (hers, his, blind)] == [True, False, False]


def test_a_stopped_stream_still_counts() -> None:
    stops = Stops()
    coming = streamed(stops, 1)
    next(coming)

    stops.stop(ANN)

    assert list(coming) == ["b", "c"]


def test_what_was_asked_for_before_the_last_click_shows_nothing() -> None:
    stops = Stops()
    list(streamed(stops, 2))

    late = list(streamed(stops, 1))

    assert late == ["nothing"]


def test_a_new_comparison_begins_when_the_old_one_has_ended() -> None:
    stops = Stops()
    seen: list[str] = []
    old = streamed(stops, 1)
    next(old)
    new = Thread(target=lambda: seen.extend(streamed(stops, 2)))

    new.start()
    new.join(0.2)
    waiting = list(seen)
    rest = list(old)
    new.join(5)

    assert (waiting, rest, seen) == ([], ["nothing"], ["a", "b", "c"])


def test_the_next_leaves_the_last_of_the_one_before_time_to_arrive() -> None:
    stops = Stops()
    list(streamed(stops, 1))
    ended = monotonic()

    next(streamed(stops, 2))

    assert monotonic() - ended > SETTLING / 2


def test_a_reading_outdates_no_comparison_and_is_outdated_by_the_next() -> None:
    stops = Stops()
    comparison, reading = streamed(stops, 1), streamed(stops, 2, replaces=False)
    begun = [next(comparison), next(reading)]
    new = Thread(target=partial(list, streamed(stops, 3)))

    second = [next(comparison), next(reading)]
    new.start()
    new.join(0.2)
    rest = [list(comparison), list(reading)]
    new.join(5)

    assert (begun, second) == (["a", "a"], ["b", "b"])
    assert rest == [["nothing"], ["nothing"]]


def test_who_leaves_ends_all_and_is_forgotten() -> None:
    stops = Stops()
    list(streamed(stops, 7))

    with stops.watch(ANN, 8) as watch:
        stops.leave("ann")

        assert (watch.stop.is_set(), watch.outdated.is_set()) == (True, True)
    assert list(streamed(stops, 0)) == ["a", "b", "c"]
