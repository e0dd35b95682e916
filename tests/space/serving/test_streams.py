from collections.abc import Iterator
from pathlib import Path
from threading import Event as Flag

from serving.messages import Failed, Finished, Model, Queued, Request, Statistics, Token
from serving.streams import BROKEN, RequestOrEvent, Side, Watch, answer_together

REQUEST = Request(model=Model(folder=Path("/nowhere")), title="one", messages=())


def token(text: str) -> Token:
    return Token(id=1, text=text, logprob=-0.5, alternatives=())


def answering() -> Iterator[RequestOrEvent]:
    yield REQUEST
    yield token("A ")
    yield token("llama")
    yield Finished(reason="end", rest=".")


def breaking() -> Iterator[RequestOrEvent]:
    yield token("A")
    raise RuntimeError("secret")


def test_sides_come_together() -> None:
    *_, last = answer_together(["one", "other"], [answering, answering], Watch())

    assert [side.text for side in last] == ["A llama.", "A llama."]
    assert all(side.over and not side.failed for side in last)
    assert last[0].request == REQUEST


def test_a_bug_on_one_side_is_told_in_words_and_leaves_the_other() -> None:
    *_, (one, other) = answer_together(["one", "other"], [breaking, answering], Watch())

    assert (one.failed, one.note) == (True, BROKEN)
    assert other.text == "A llama."


def test_words_of_a_refusal_reach_the_visitor() -> None:
    class RefusedError(Exception):
        message = "your quota is used up"

    def refusing() -> Iterator[RequestOrEvent]:
        raise RefusedError
        yield REQUEST

    *_, (side,) = answer_together(["one"], [refusing], Watch())

    assert side.note == "your quota is used up"


def test_a_side_that_nothing_interrupts_is_stopped_all_the_same() -> None:
    watch, gate = Watch(), Flag()

    def fetching() -> Iterator[RequestOrEvent]:
        yield token("A")
        gate.wait()
        yield token(" llama")

    coming = answer_together(["one", "other"], [fetching, answering], watch)
    next(coming)
    watch.stop.set()

    *_, (one, other) = coming
    gate.set()

    assert (one.text, one.note, one.over) == ("A", "stopped", True)
    assert other.text == "A llama."


def test_of_what_is_outdated_nothing_more_comes() -> None:
    watch = Watch()
    coming = answer_together(["one"], [answering], watch)
    next(coming)

    watch.outdated.set()

    assert list(coming) == []


def test_leaving_off_stops_the_answers() -> None:
    watch = Watch()
    coming = answer_together(["one"], [answering], watch)
    next(coming)
    next(coming)

    coming.close()  # type: ignore[attr-defined] # it is a generator

    assert watch.stop.is_set()


def test_the_place_in_the_queue_is_told_while_it_lasts() -> None:
    side = Side("one")

    side.take(Queued(place=3))
    waiting = (side.place, side.note)
    side.take(token("A"))

    assert waiting == (3, "in the queue: place 3")
    assert side.place is None


def test_a_failure_keeps_what_was_said_before() -> None:
    side = Side("one")

    for each in (
        token("A"),
        Statistics(tokens=1, first_token=0.1, rate=None, memory=1, peak=1),
        Failed(text="it died"),
    ):
        side.take(each)

    assert (side.text, side.note, side.failed, side.over) == ("A", "it died", True, True)


def test_an_answer_is_whole_unless_it_failed_was_stopped_or_says_nothing() -> None:
    ends: list[RequestOrEvent] = [
        Finished(reason="end"),
        Finished(reason="length"),
        Finished(reason="stopped"),
        Failed(text="it died"),
        Finished(reason="end"),
    ]
    sides = [Side("one") for _ in ends]

    for side, end in zip(sides, ends, strict=True):
        if side is not sides[-1]:
            side.take(token("A"))
        side.take(end)

    assert [side.whole for side in sides] == [True, True, False, False, False]
