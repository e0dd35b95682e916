"""The line in which requests wait: so many run at once, so many wait, and each knows its place."""

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Condition, Event

from hubq.errors import UserError

LOOK = 0.05  # seconds between two looks at whether a visitor stopped


@dataclass(eq=False)
class Ticket:
    """A request in line for one model."""

    model: str
    prepared: bool = False  # whether it could start
    running: bool = False


class Turns:
    """First come, first served; only those whose model is at work or still on its way let pass."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self.at_once = at_once
        self.waiting = waiting
        self._changed = Condition()
        self._line: list[Ticket] = []  # without those that run
        self._running: list[Ticket] = []

    def join(self, model: str) -> Ticket:
        """Enter the line; raise UserError when it is full."""
        with self._changed:
            if len(self._line) >= self.waiting:
                raise UserError(
                    f"{len(self._line)} answers are already waiting for their turn, which is as "
                    "many as may wait. Try again in a minute"
                )
            ticket = Ticket(model)
            self._line.append(ticket)
            return ticket

    def places(self, ticket: Ticket, stop: Event) -> Iterator[int]:
        """Yield the place in line (1 is next) as it changes, until it's the ticket's turn or stop.

        Afterwards `ticket.running` says which of the two it was.
        """
        told = None
        while not stop.is_set():
            with self._changed:
                ticket.prepared = True
                if self._may_start(ticket):
                    self._start(ticket)
                    return
                place = self._line.index(ticket) + 1
                if place == told:
                    self._changed.wait(LOOK)
                    continue
            told = place
            yield place

    def leave(self, ticket: Ticket) -> None:
        """Go out of the line, or give the turn back."""
        with self._changed:
            for group in (self._line, self._running):
                if ticket in group:
                    group.remove(ticket)
            ticket.running = False
            self._changed.notify_all()

    def _start(self, ticket: Ticket) -> None:
        self._line.remove(ticket)
        self._running.append(ticket)
        ticket.running = True
        self._changed.notify_all()

    def _may_start(self, ticket: Ticket) -> bool:
        """Tell whether there is a turn, and nobody before this one could take it."""
        if len(self._running) >= self.at_once:
            return False
        return next((each for each in self._line if self._could_start(each)), None) is ticket

    def _could_start(self, ticket: Ticket) -> bool:
        at_work = {each.model for each in self._running}
        return ticket.prepared and ticket.model not in at_work
