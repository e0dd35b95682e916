"""Several models that answer at the same time, as one stream of how far each has come."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Thread
from time import monotonic

from exchange import Event, Failed, Finished, Loading, Queued, Request, Statistics, Token

PACE = 0.12  # seconds between two looks of a visitor
BROKEN = "something went wrong here that is no fault of yours; the log of this Space has more"
SPOKEN = {
    "length": "cut at the most tokens that the settings allow",
    "stopped": "stopped",
    "end": "",
}

Happening = Request | Event  # the request itself comes first, once it is known
Start = Callable[[], Iterator[Happening]]

logger = logging.getLogger(__name__)


@dataclass
class Side:
    """An answer as far as it has come."""

    title: str
    text: str = ""
    note: str = "waiting"  # what there is to say of it
    statistics: Statistics | None = None
    place: int | None = None  # in the queue
    over: bool = False
    failed: bool = False
    request: Request | None = None
    events: list[Event] = field(default_factory=list)

    def take(self, happening: Happening) -> None:
        """Note what happened."""
        if isinstance(happening, Request):
            self.request = happening
            return
        self.events.append(happening)
        self.place = happening.place if isinstance(happening, Queued) else None
        match happening:
            case Queued(place=place):
                self.note = f"in the queue: place {place}"
            case Loading(text=text) | Failed(text=text):
                self.note = text
            case Token(text=text):
                self.note = "answering"
                self.text += text
            case Statistics():
                self.statistics = happening
            case Finished():
                self.note = SPOKEN[happening.reason]
                self.text += happening.rest
            case _:
                self.note = "reading the prompt"
        self.failed = isinstance(happening, Failed)
        self.over = self.over or isinstance(happening, (Failed, Finished))


def together(titles: Sequence[str], starts: Sequence[Start], stop: Flag) -> Iterator[list[Side]]:
    """Yield how far the answers are, now and then and at the end; leaving off stops them all."""
    sides = [Side(title) for title in titles]
    happened: SimpleQueue[tuple[int, Happening]] = SimpleQueue()
    for number, start in enumerate(starts):
        # In the visitor's own context: ZeroGPU finds there whose quota it is.
        run = copy_context().run
        Thread(target=run, args=(_listen, number, start, happened), daemon=True).start()
    try:
        yield sides
        while not all(side.over for side in sides):
            _gather(sides, happened)
            yield sides
    finally:
        stop.set()


def _gather(sides: list[Side], happened: "SimpleQueue[tuple[int, Happening]]") -> None:
    """Wait for a first event, then take what comes until it is time to show it."""
    number, happening = happened.get()
    sides[number].take(happening)
    shown = monotonic() + PACE
    while not all(side.over for side in sides):
        try:
            number, happening = happened.get(timeout=max(0.0, shown - monotonic()))
        except Empty:
            return
        sides[number].take(happening)


def _listen(number: int, start: Start, happened: "SimpleQueue[tuple[int, Happening]]") -> None:
    """Pass the events of one answer on; whatever goes wrong with it is its own last event."""
    try:
        for happening in start():
            happened.put((number, happening))
    except Exception as error:
        # The end of a thread, which nobody would hear of. ZeroGPU refuses with words of its own.
        words = getattr(error, "message", None)
        logger.exception("an answer broke off")
        happened.put((number, Failed(text=str(words or BROKEN))))
