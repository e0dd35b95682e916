"""A Progress that remembers its tasks and their steps, and one that ends them."""

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


class Killed(Exception):  # noqa: N818 - what happens, not what is wrong
    """The end of what is not finished."""


class Killing(Recorder):
    """Die once so many steps are done, one by one, of tasks whose titles begin so."""

    def __init__(self, steps: int, title: str) -> None:
        super().__init__()
        self.left, self.title = steps, title

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Open a task, which may not end."""
        with super().task(title, total) as advance:

            def count(steps: int) -> None:
                advance(steps)
                if steps == 1 and title.startswith(self.title):
                    self.left -= 1
                    if not self.left:
                        raise Killed

            yield count
