from collections.abc import Callable
from threading import Event, Thread
from time import sleep

import pytest

from hubq.errors import UserError
from serving.machine import Memory
from serving.model_cache import Need, Shelf, StoppedError


class Jar:
    """A thing that is as large as it ever gets."""

    def __init__(self, size: int) -> None:
        self.alive = self.ready = True
        self.resident = size

    def end(self) -> None:
        self.alive = False


def shelf_of(total: int, free: int | None = None) -> Shelf[Jar]:
    return Shelf(Memory("machine", total, lambda: total if free is None else free))


def lend(shelf: Shelf[Jar], key: str, size: int = 40) -> Jar:
    with shelf.lend(Need(key, f"model {key}", size), lambda: Jar(0)) as jar:
        return jar


def test_what_is_there_is_lent_again() -> None:
    shelf = shelf_of(100)

    assert lend(shelf, "a") is lend(shelf, "a")


def test_the_least_recently_used_makes_room() -> None:
    shelf = shelf_of(100)
    first, second = lend(shelf, "a"), lend(shelf, "b")
    lend(shelf, "a")

    lend(shelf, "c")

    assert shelf.keys == ["a", "c"]
    assert (first.alive, second.alive) == (True, False)


def test_what_never_fits_is_refused_in_words() -> None:
    with pytest.raises(UserError) as refusal:
        lend(shelf_of(8_000_000_000), "a", 16_000_000_000)

    assert str(refusal.value) == "model a needs 16.00 GB of memory; this machine has 8.00 GB"


def test_what_does_not_fit_beside_strangers_is_refused_in_words() -> None:
    with pytest.raises(UserError, match=r"only 3\.00 GB are free now\. Try again later"):
        lend(shelf_of(8_000_000_000, free=3_000_000_000), "a", 5_000_000_000)


def test_what_is_still_growing_counts_as_large_as_it_will_be() -> None:
    shelf = shelf_of(200, free=100)  # of which the first takes 40, but has none yet
    lend(shelf, "a")

    lend(shelf, "b", 70)

    assert shelf.keys == ["b"]


@pytest.mark.parametrize(("ready", "kept"), [(False, ["b"]), (True, ["a", "b"])])
def test_on_a_gpu_a_model_counts_whole_until_it_is_loaded(ready: bool, kept: list[str]) -> None:
    # The first takes 40 of the GPU, none of them yet or all; its process has 60 of the machine.
    free = 60 if ready else 100
    shelf: Shelf[Jar] = Shelf(Memory("GPU", 200, lambda: free, holds_processes=False))
    first = Jar(60)
    first.ready = ready
    with shelf.lend(Need("a", "model a", 40), lambda: first):
        pass

    lend(shelf, "b", 60 if ready else 70)

    assert shelf.keys == kept


def test_what_died_is_made_anew() -> None:
    shelf = shelf_of(100)
    dead = lend(shelf, "a")
    dead.alive = False

    assert lend(shelf, "a") is not dead


def test_what_died_takes_no_room() -> None:
    shelf = shelf_of(100)
    living, dead = lend(shelf, "a"), lend(shelf, "b")
    dead.alive = False

    lend(shelf, "c")

    assert shelf.keys == ["a", "c"]
    assert living.alive


def test_one_waits_for_what_another_holds() -> None:
    shelf = shelf_of(100)
    held = shelf.lend(Need("a", "model a", 80), lambda: Jar(0))
    jar = held.__enter__()
    got: list[Jar] = []
    waiting = Thread(target=lambda: got.append(lend(shelf, "b", 80)))

    waiting.start()
    sleep(0.05)
    before = list(got)
    held.__exit__(None, None, None)
    waiting.join(5)

    assert (before, len(got), jar.alive) == ([], 1, False)


def stopped_after(wait: Callable[[Event], None]) -> list[bool]:
    """Stop one who waits; return whether they went away."""
    stop, away = Event(), []

    def waiting() -> None:
        try:
            wait(stop)
        except StoppedError:
            away.append(True)

    thread = Thread(target=waiting)
    thread.start()
    sleep(0.05)
    stop.set()
    thread.join(5)
    return away


def stoppable(shelf: Shelf[Jar], key: str, size: int) -> Callable[[Event], None]:
    def wait(stop: Event) -> None:
        with shelf.lend(Need(key, key, size), lambda: pytest.fail("it is made"), stop):
            pytest.fail("it is lent")

    return wait


def test_who_is_stopped_before_ends_nothing_and_makes_nothing() -> None:
    shelf = shelf_of(100)
    idle = lend(shelf, "a", 80)
    stop = Event()
    stop.set()

    with pytest.raises(StoppedError):
        stoppable(shelf, "b", 80)(stop)

    assert (shelf.keys, idle.alive) == (["a"], True)


@pytest.mark.parametrize("key", ["a", "b"])
def test_a_stop_ends_the_waiting_for_what_another_holds_and_for_memory(key: str) -> None:
    shelf = shelf_of(100)

    with shelf.lend(Need("a", "model a", 80), lambda: Jar(0)):
        away = stopped_after(stoppable(shelf, key, 80))

    assert away == [True]
    assert lend(shelf, "b", 80).alive  # the door is open again


def test_a_stop_ends_the_waiting_behind_another_who_waits() -> None:
    shelf = shelf_of(100)

    with shelf.lend(Need("a", "model a", 80), lambda: Jar(0)):
        before = Thread(target=lambda: lend(shelf, "b", 80))
        before.start()
        sleep(0.05)
        away = stopped_after(stoppable(shelf, "c", 80))
    before.join(5)

    assert away == [True]


def test_what_is_there_and_alive_is_ready() -> None:
    shelf = shelf_of(100)
    before, jar = shelf.is_ready("a"), lend(shelf, "a")
    during = shelf.is_ready("a")
    jar.alive = False

    assert (before, during, shelf.is_ready("a")) == (False, True, False)


def test_clearing_ends_everything() -> None:
    shelf = shelf_of(100)
    jar = lend(shelf, "a")

    shelf.clear()

    assert (shelf.keys, jar.alive) == ([], False)
