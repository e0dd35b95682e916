from collections.abc import Callable
from threading import Event, Thread
from time import sleep

import pytest

from hubq.errors import UserError
from serving.machine import Memory
from serving.model_cache import ModelCache, Need, StoppedError


class Jar:
    """A thing that is as large as it ever gets."""

    def __init__(self, size: int) -> None:
        self.alive = self.ready = True
        self.resident = size

    def end(self) -> None:
        self.alive = False


def cache_of(total: int, free: int | None = None) -> ModelCache[Jar]:
    return ModelCache(Memory("machine", total, lambda: total if free is None else free))


def lend(cache: ModelCache[Jar], key: str, size: int = 40) -> Jar:
    with cache.lend(Need(key, f"model {key}", size), lambda: Jar(0)) as jar:
        return jar


def test_what_is_there_is_lent_again() -> None:
    cache = cache_of(100)

    assert lend(cache, "a") is lend(cache, "a")


def test_the_least_recently_used_makes_room() -> None:
    cache = cache_of(100)
    first, second = lend(cache, "a"), lend(cache, "b")
    lend(cache, "a")

    lend(cache, "c")

    assert cache.keys == ["a", "c"]
    assert (first.alive, second.alive) == (True, False)


def test_what_never_fits_is_refused_in_words() -> None:
    with pytest.raises(UserError) as refusal:
        lend(cache_of(8_000_000_000), "a", 16_000_000_000)

    assert str(refusal.value) == "model a needs 16.00 GB of memory; this machine has 8.00 GB"


def test_what_does_not_fit_beside_strangers_is_refused_in_words() -> None:
    with pytest.raises(UserError, match=r"only 3\.00 GB are free now\. Try again later"):
        lend(cache_of(8_000_000_000, free=3_000_000_000), "a", 5_000_000_000)


def test_what_is_still_growing_counts_as_large_as_it_will_be() -> None:
    cache = cache_of(200, free=100)  # of which the first takes 40, but has none yet
    lend(cache, "a")

    lend(cache, "b", 70)

    assert cache.keys == ["b"]


@pytest.mark.parametrize(("ready", "kept"), [(False, ["b"]), (True, ["a", "b"])])
def test_on_a_gpu_a_model_counts_whole_until_it_is_loaded(ready: bool, kept: list[str]) -> None:
    # The first takes 40 of the GPU, none of them yet or all; its process has 60 of the machine.
    free = 60 if ready else 100
    cache: ModelCache[Jar] = ModelCache(Memory("GPU", 200, lambda: free, holds_processes=False))
    first = Jar(60)
    first.ready = ready
    with cache.lend(Need("a", "model a", 40), lambda: first):
        pass

    lend(cache, "b", 60 if ready else 70)

    assert cache.keys == kept


def test_what_died_is_made_anew() -> None:
    cache = cache_of(100)
    dead = lend(cache, "a")
    dead.alive = False

    assert lend(cache, "a") is not dead


def test_what_died_takes_no_room() -> None:
    cache = cache_of(100)
    living, dead = lend(cache, "a"), lend(cache, "b")
    dead.alive = False

    lend(cache, "c")

    assert cache.keys == ["a", "c"]
    assert living.alive


def test_one_waits_for_what_another_holds() -> None:
    cache = cache_of(100)
    held = cache.lend(Need("a", "model a", 80), lambda: Jar(0))
    jar = held.__enter__()
    got: list[Jar] = []
    waiting = Thread(target=lambda: got.append(lend(cache, "b", 80)))

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


def stoppable(cache: ModelCache[Jar], key: str, size: int) -> Callable[[Event], None]:
    def wait(stop: Event) -> None:
        with cache.lend(Need(key, key, size), lambda: pytest.fail("it is made"), stop):
            pytest.fail("it is lent")

    return wait


def test_who_is_stopped_before_ends_nothing_and_makes_nothing() -> None:
    cache = cache_of(100)
    idle = lend(cache, "a", 80)
    stop = Event()
    stop.set()

    with pytest.raises(StoppedError):
        stoppable(cache, "b", 80)(stop)

    assert (cache.keys, idle.alive) == (["a"], True)


@pytest.mark.parametrize("key", ["a", "b"])
def test_a_stop_ends_the_waiting_for_what_another_holds_and_for_memory(key: str) -> None:
    cache = cache_of(100)

    with cache.lend(Need("a", "model a", 80), lambda: Jar(0)):
        away = stopped_after(stoppable(cache, key, 80))

    assert away == [True]
    assert lend(cache, "b", 80).alive  # the door is open again


def test_a_stop_ends_the_waiting_behind_another_who_waits() -> None:
    cache = cache_of(100)

    with cache.lend(Need("a", "model a", 80), lambda: Jar(0)):
        before = Thread(target=lambda: lend(cache, "b", 80))
        before.start()
        sleep(0.05)
        away = stopped_after(stoppable(cache, "c", 80))
    before.join(5)

    assert away == [True]


def test_what_is_there_and_alive_is_ready() -> None:
    cache = cache_of(100)
    before, jar = cache.is_ready("a"), lend(cache, "a")
    during = cache.is_ready("a")
    jar.alive = False

    assert (before, during, cache.is_ready("a")) == (False, True, False)


def test_clearing_ends_everything() -> None:
    cache = cache_of(100)
    jar = lend(cache, "a")

    cache.clear()

    assert (cache.keys, jar.alive) == ([], False)
