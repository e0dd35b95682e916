"""Blind comparisons that wait for their vote: who is left and who is right stays on the server.

The browser gets an id that is drawn at random and says nothing. Whoever draws the sides may be
replaced in tests; by default it is the system's own source, which no visitor can foretell.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from random import Random, SystemRandom
from threading import Lock
from time import monotonic

from hubq.errors import UserError
from hubq.record import Record

ID_BYTES = 18


class Ballot(Record):
    """A comparison of two models, by name, whose sides are drawn."""

    id: str
    left: str
    right: str
    settings: Mapping[str, int | float]
    prompt: str


class Ballots:
    """So many open comparisons, the oldest given up for the newest, each for some time."""

    def __init__(
        self,
        *,
        most: int = 1000,
        seconds: float = 3600.0,
        random: Random | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.most = most
        self.seconds = seconds
        self._random = random or SystemRandom()
        self._clock = clock
        self._lock = Lock()
        self._open: OrderedDict[str, tuple[float, Ballot]] = OrderedDict()  # oldest first

    def draw(
        self, one: str, other: str, settings: Mapping[str, int | float], prompt: str
    ) -> Ballot:
        """Open a comparison of two models with the sides in random order."""
        if one == other:
            raise UserError(f"{one} can't be compared with itself: choose another model")
        with self._lock:
            left, right = self._random.sample((one, other), 2)
            ballot = Ballot(
                id=secrets.token_urlsafe(ID_BYTES),
                left=left,
                right=right,
                settings=settings,
                prompt=prompt,
            )
            self._open[ballot.id] = (self._clock(), ballot)
            self._forget()
            return ballot

    def find(self, id: str) -> Ballot:
        """Return an open comparison; raise UserError when there is none (any more)."""
        with self._lock:
            self._forget()
            if id not in self._open:
                raise UserError(
                    "this comparison is over: it has its vote, or it waited too long. "
                    "Begin a new one"
                )
            return self._open[id][1]

    def close(self, id: str) -> None:
        """Forget a comparison that has its vote."""
        with self._lock:
            self._open.pop(id, None)

    def _forget(self) -> None:
        """Give up what is too old or too much."""
        oldest = self._clock() - self.seconds
        while self._open:
            began, _ = next(iter(self._open.values()))
            if began > oldest and len(self._open) <= self.most:
                return
            self._open.popitem(last=False)
