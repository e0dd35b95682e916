"""How a long stage tells how far it is, without knowing who listens."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Where a stage reports its steps; a terminal draws bars, a library uses SILENT."""

    def task(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """Open a task of `total` steps; the value of the context advances it by n steps."""
        ...


class Silent:
    """A Progress that shows nothing."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Accept the steps and drop them."""
        yield lambda steps: None


SILENT: Progress = Silent()
