"""Files of the cache that several processes want: one makes them, the others wait."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from progress_recorder import Recorder

from hubq.machine.files import alone_with, cache_folder
from hubq.machine.progress import Advance


def test_who_comes_later_waits_and_says_so() -> None:
    path, waiting = cache_folder("measurements") / "x", threading.Event()
    order: list[str] = []

    class Noting(Recorder):
        @contextmanager
        def task(self, title: str, total: int) -> Iterator[Advance]:
            waiting.set()
            with super().task(title, total) as advance:
                yield advance

    told = Noting()

    def later() -> None:
        with alone_with(path, told):
            order.append("second")

    with alone_with(path):
        thread = threading.Thread(target=later)
        thread.start()
        assert waiting.wait(60)
        order.append("first")
    thread.join()

    assert order == ["first", "second"]
    assert told.titles == ["Waiting for another process that does the same"]


def test_two_files_are_made_at_the_same_time() -> None:
    with alone_with(cache_folder("a") / "x"), alone_with(cache_folder("a") / "y"):
        pass


def test_a_lock_lies_beside_no_file_of_the_cache() -> None:
    path: Path = cache_folder("measurements") / "x"

    with alone_with(path):
        pass

    assert list(cache_folder("measurements").iterdir()) == []
