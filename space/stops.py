"""Which answers a visitor has under way, so that a button or a closed page stops just these."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from listening import Watch


class Stops:
    """What ends each stream, by the visitor's session."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._watches: dict[str, list[Watch]] = {}

    @contextmanager
    def watch(self, session: str | None) -> Iterator[Watch]:
        """Give a flag that is set when the visitor stops; it is set too when the stream ends."""
        watch, key = Watch(), session or ""
        with self._lock:
            self._watches.setdefault(key, []).append(watch)
        try:
            yield watch
        finally:
            watch.stop.set()
            with self._lock:
                self._watches[key].remove(watch)
                if not self._watches[key]:
                    del self._watches[key]

    def stop(self, session: str | None) -> None:
        """Stop all that a visitor has under way."""
        with self._lock:
            for watch in self._watches.get(session or "", ()):
                watch.stop.set()
