"""Several models that answer at the same time, as one stream of how far each has come.

Each speaks in a thread of its own, and a visitor can leave whatever they wait for.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Thread
from time import monotonic
from typing import TypeVar

from serving.messages import Event, Failed, Finished, Loading, Queued, Request, Statistics, Token

PACE = 0.12  # seconds between two looks of a visitor
GRACE = 1.0  # seconds in which what was stopped may still say its last words
BROKEN = "something went wrong here that is not your fault; the log of this Space has more"

Item = TypeVar("Item")
Heard = SimpleQueue[tuple[int, "Item | Failed | None"]]  # None: this one says no more

logger = logging.getLogger(__name__)
SPOKEN = {
    "length": "cut off at the maximum of new tokens in the settings",
    "stopped": "stopped",
    "end": "",
}
RequestOrEvent = Request | Event  # the request itself comes first, once it is known
Start = Callable[[], Iterator[RequestOrEvent]]


@dataclass(frozen=True)
class Watch:
    """What ends a stream: `stop` soon, with what there is; `outdated` at once, with nothing."""

    stop: Flag = field(default_factory=Flag)
    outdated: Flag = field(default_factory=Flag)


def listen(
    starts: Sequence[Callable[[], Iterator[Item]]], watch: Watch
) -> Iterator[list[tuple[int, Item | Failed]]]:
    """Run each in a thread of its own and yield now and then what came, with the number of whom.

    The end is when all have ended, or a moment after the stop, or when it is outdated; whoever
    leaves off stops them all. What goes wrong in a thread is its last item, in words.
    """
    heard: Heard[Item] = SimpleQueue()
    for number, start in enumerate(starts):
        # In the visitor's own context: ZeroGPU finds there whose quota it is.
        run = copy_context().run
        Thread(target=run, args=(_speak, number, start, heard), daemon=True).start()
    speaking, last = set(range(len(starts))), float("inf")
    try:
        while speaking and not watch.outdated.is_set() and monotonic() < last:
            came = _gather(heard, speaking)
            if came:
                yield came
            if watch.stop.is_set():
                last = min(last, monotonic() + GRACE)
    finally:
        watch.stop.set()


def _gather(heard: "Heard[Item]", speaking: set[int]) -> list[tuple[int, Item | Failed]]:
    """Take what comes until it is time to show it; who has ended is no longer `speaking`."""
    came: list[tuple[int, Item | Failed]] = []
    shown = monotonic() + PACE
    while speaking:
        try:
            number, item = heard.get(timeout=max(0.0, shown - monotonic()))
        except Empty:
            break
        if item is None:
            speaking.discard(number)
        else:
            came.append((number, item))
    return came


def _speak(number: int, start: Callable[[], Iterator[Item]], heard: "Heard[Item]") -> None:
    try:
        for item in start():
            heard.put((number, item))
    except Exception as error:
        # The end of a thread, which nobody would hear of. ZeroGPU refuses with words of its own.
        words = getattr(error, "message", None)
        logger.exception("an answer was interrupted")
        heard.put((number, Failed(text=str(words or BROKEN))))
    heard.put((number, None))


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
    ended: str | None = None  # why, where it did not fail
    request: Request | None = None
    events: list[Event] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Tell whether there is an answer, as long as the model or the settings made it."""
        return bool(self.text) and self.ended in ("end", "length")

    def take(self, happening: RequestOrEvent) -> None:
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
                self.note, self.ended = SPOKEN[happening.reason], happening.reason
                self.text += happening.rest
            case _:
                self.note = "reading the prompt"
        self.failed = isinstance(happening, Failed)
        self.over = self.over or isinstance(happening, (Failed, Finished))


def answer_together(
    titles: Sequence[str], starts: Sequence[Start], watch: Watch
) -> Iterator[list[Side]]:
    """Yield how far the answers are, as they change, and at the end, when each is over.

    Whoever leaves off stops them all. A side that goes on a moment after the stop, since nothing
    interrupts what it waits for, is stopped all the same. Of outdated ones nothing more comes.
    """
    sides = [Side(title) for title in titles]
    yield sides
    for came in listen(starts, watch):
        for number, happening in came:
            sides[number].take(happening)
        yield sides
    late = [side for side in sides if not side.over]
    for side in late:
        side.take(Finished(reason="stopped"))
    if late and not watch.outdated.is_set():
        yield sides
