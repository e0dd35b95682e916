"""Several models that answer at the same time, as one stream of how far each has come."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from serving.messages import Event, Failed, Finished, Loading, Queued, Request, Statistics, Token
from serving.streams import Watch, listen

SPOKEN = {
    "length": "cut at the most tokens that the settings allow",
    "stopped": "stopped",
    "end": "",
}

Happening = Request | Event  # the request itself comes first, once it is known
Start = Callable[[], Iterator[Happening]]


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
                self.note, self.ended = SPOKEN[happening.reason], happening.reason
                self.text += happening.rest
            case _:
                self.note = "reading the prompt"
        self.failed = isinstance(happening, Failed)
        self.over = self.over or isinstance(happening, (Failed, Finished))


def together(titles: Sequence[str], starts: Sequence[Start], watch: Watch) -> Iterator[list[Side]]:
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
