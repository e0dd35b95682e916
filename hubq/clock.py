"""Where the time of a stage goes."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Clock:
    """Sums the seconds spent under each name; what is timed inside another name counts once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = 0.0  # seconds that were counted since the innermost open name began

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the time until the context ends to a name."""
        outside, self._inside = self._inside, 0.0
        begin = perf_counter()
        try:
            yield
        finally:
            spent = perf_counter() - begin
            self.seconds[name] += spent - self._inside
            self._inside = outside + spent
