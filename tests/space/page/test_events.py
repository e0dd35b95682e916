from collections.abc import Iterator
from functools import partial
from threading import Thread
from time import monotonic

from page.events import BLIND, COMPARE, SETTLING, OpenStreams, Tab
from serving.streams import Watch

ANN, BOB = Tab("ann", COMPARE), Tab("bob", COMPARE)


def counting(watch: Watch) -> Iterator[str]:
    yield from "abc"


def streamed(streams: OpenStreams, click: int, *, replaces: bool = True) -> Iterator[str]:
    return streams.stream(ANN, click, counting, "nothing", replaces=replaces)


def test_a_stop_is_for_one_tab_of_one_visitor() -> None:
    streams = OpenStreams()

    with (
        streams.watch(ANN) as hers,
        streams.watch(BOB) as his,
        streams.watch(Tab("ann", BLIND)) as blind,
    ):
        streams.stop(ANN)

        assert [each.stop.is_set() for each in (hers, his, blind)] == [True, False, False]


def test_a_stopped_stream_still_counts() -> None:
    streams = OpenStreams()
    coming = streamed(streams, 1)
    next(coming)

    streams.stop(ANN)

    assert list(coming) == ["b", "c"]


def test_what_was_asked_for_before_the_last_click_shows_nothing() -> None:
    streams = OpenStreams()
    list(streamed(streams, 2))

    late = list(streamed(streams, 1))

    assert late == ["nothing"]


def test_a_new_comparison_begins_when_the_old_one_has_ended() -> None:
    streams = OpenStreams()
    seen: list[str] = []
    old = streamed(streams, 1)
    next(old)
    new = Thread(target=lambda: seen.extend(streamed(streams, 2)))

    new.start()
    new.join(0.2)
    waiting = list(seen)
    rest = list(old)
    new.join(5)

    assert (waiting, rest, seen) == ([], ["nothing"], ["a", "b", "c"])


def test_the_next_leaves_the_last_of_the_one_before_time_to_arrive() -> None:
    streams = OpenStreams()
    list(streamed(streams, 1))
    ended = monotonic()

    next(streamed(streams, 2))

    assert monotonic() - ended > SETTLING / 2


def test_a_reading_outdates_no_comparison_and_is_outdated_by_the_next() -> None:
    streams = OpenStreams()
    comparison, reading = streamed(streams, 1), streamed(streams, 2, replaces=False)
    begun = [next(comparison), next(reading)]
    new = Thread(target=partial(list, streamed(streams, 3)))

    second = [next(comparison), next(reading)]
    new.start()
    new.join(0.2)
    rest = [list(comparison), list(reading)]
    new.join(5)

    assert (begun, second) == (["a", "a"], ["b", "b"])
    assert rest == [["nothing"], ["nothing"]]


def test_who_leaves_ends_all_and_is_forgotten() -> None:
    streams = OpenStreams()
    list(streamed(streams, 7))

    with streams.watch(ANN, 8) as watch:
        streams.leave("ann")

        assert (watch.stop.is_set(), watch.outdated.is_set()) == (True, True)
    assert list(streamed(streams, 0)) == ["a", "b", "c"]
