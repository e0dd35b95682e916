"""Which answers a visitor has under way, so that a button or a closed page stops just these."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Flag
from threading import Lock


class Stops:
    """A flag for each stream, by the visitor's session."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._flags: dict[str, list[Flag]] = {}

    @contextmanager
    def watch(self, session: str | None) -> Iterator[Flag]:
        """Give a flag that is set when the visitor stops; it is set too when the stream ends."""
        flag, key = Flag(), session or ""
        with self._lock:
            self._flags.setdefault(key, []).append(flag)
        try:
            yield flag
        finally:
            flag.set()
            with self._lock:
                self._flags[key].remove(flag)
                if not self._flags[key]:
                    del self._flags[key]

    def stop(self, session: str | None) -> None:
        """Stop all that a visitor has under way."""
        with self._lock:
            for flag in self._flags.get(session or "", ()):
                flag.set()
