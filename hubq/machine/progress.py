"""How a long stage tells how far it is and where its time goes; and how libraries keep silent."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
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


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' warnings and bars off the screen; errors still come through."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled
    from transformers.utils import logging

    before = logging.get_verbosity()
    # It switches huggingface_hub's bars too, which warns where the environment forbids them.
    bars = logging.is_progress_bar_enabled() and not are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


class Clock:
    """Sums the seconds spent under each name; what is timed inside another name counts once.

    `settle` waits for work that was only queued, as on a GPU, which would count under a later name.
    """

    def __init__(self, settle: Callable[[], None] = lambda: None) -> None:
        self.settle = settle
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = 0.0  # seconds that were counted since the innermost open name began

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the time until the context ends to a name."""
        self.settle()
        outside, self._inside = self._inside, 0.0
        begin = perf_counter()
        try:
            yield
            self.settle()
        finally:
            spent = perf_counter() - begin
            self.seconds[name] += spent - self._inside
            self._inside = outside + spent
