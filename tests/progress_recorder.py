"""A Progress that remembers its tasks and their steps."""

from collections.abc import Iterator
from contextlib import contextmanager

from hubq.machine.progress import Advance


class Recorder:
    """What was announced, in its order, and how far each title came."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.totals: dict[str, int] = {}
        self.steps: dict[str, int] = {}

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Note a task; a title that comes again starts over."""
        self.titles.append(title)
        self.totals[title], self.steps[title] = total, 0

        def advance(steps: int) -> None:
            self.steps[title] += steps

        yield advance
