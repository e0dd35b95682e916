"""How a long stage tells how far it is, and how libraries are kept from telling it too."""

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
