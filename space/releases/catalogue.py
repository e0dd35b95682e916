"""The list of models as long as the page is open: made again when it is old, kept when it can't be.

Listing an organization again costs one request: reports are kept on the disk by their commit.
"""

import time
from collections.abc import Callable
from threading import Lock

from hubq.client import Client
from releases.discovery import Sources, find
from releases.models import Listing, Problem, Released

LIFETIME = 120.0  # seconds
FRESH = 5.0  # seconds in which nobody's wish makes it ask again


class Catalogue:
    """What the sources hold, at most `lifetime` seconds old; all visitors share one."""

    def __init__(
        self,
        sources: Sources,
        client: Client,
        lifetime: float = LIFETIME,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sources, self.client = sources, client
        self._lifetime, self._clock = lifetime, clock
        self._lock = Lock()
        self._known: Listing | None = None
        self._time = 0.0

    def listing(self, *, anew: bool = False) -> Listing:
        """Return the models; ask the sources if the last answer is old, or `anew` is wanted.

        While one visitor's call asks them, the others get the last answer at once.
        """
        known = self._known
        if known is not None and self._is_fresh(anew):
            return known
        if not self._lock.acquire(blocking=known is None):
            assert known is not None, "who knows nothing waits"
            return known
        try:
            if self._known is None or not self._is_fresh(anew):
                self._known = _kept(find(self.sources, self.client), self._known)
                self._time = self._clock()
            return self._known
        finally:
            self._lock.release()

    def _is_fresh(self, anew: bool) -> bool:
        return self._clock() - self._time <= (FRESH if anew else self._lifetime)

    def pick(self, name: str) -> Released | Problem:
        """Return a model by its name, or say that it is gone."""
        for listing in (self.listing(), self.listing(anew=True)):
            for each in listing.models:
                if each.name == name:
                    return each
        return Problem(
            name,
            f"{name} is not here any more: it was deleted, renamed or made private, or never was "
            "here. Choose another model.",
        )


def _kept(now: Listing, before: Listing | None) -> Listing:
    """Keep what was known of a source that can't be asked at the moment, and say so."""
    silent = {each.name for each in now.problems if each.whole}
    known = {each.name for each in now.models}
    old = [
        each
        for each in (before.models if before else ())
        if each.origin in silent and each.name not in known
    ]
    if not old:
        return now
    names = ", ".join(sorted({each.origin for each in old}))
    note = Problem(names, f"Shown is what was known of {names} before.")
    models = sorted((*now.models, *old), key=lambda each: (each.base, not each.is_base))
    return Listing(tuple(models), (*now.problems, note))
