"""Who has to wait: for a turn, since so many answer at once, and for the memory of a model.

Requests wait in a queue in which each knows its place. Loaded models stay as long as there is
memory: the least recently used makes room for the next.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Lock
from threading import Event as Flag
from typing import Generic, Protocol, TypeVar

from hubq.errors import UserError
from hubq.machine.files import gigabytes
from serving.machine import Memory

LOOK = 0.05  # seconds between two looks at whether a visitor stopped


class CachedModel(Protocol):
    """What lies in a cache."""

    @property
    def alive(self) -> bool:
        """Whether it can still be used."""

    @property
    def ready(self) -> bool:
        """Whether it can be used at once, without loading."""

    @property
    def resident(self) -> int:
        """The bytes of the machine that it takes; it may not have all that it needs yet."""

    def end(self) -> None:
        """Give the memory back."""


AnyModel = TypeVar("AnyModel", bound=CachedModel)


class StoppedError(Exception):
    """Whoever waited does not want it any more."""


@dataclass(frozen=True)
class Need:
    """What is wanted: which model, how visitors are told of it, and its bytes."""

    key: str
    title: str
    bytes: int


@dataclass
class CachedPlace(Generic[AnyModel]):
    """A model in the cache, and whether somebody has it."""

    model: AnyModel
    bytes: int
    lent: bool = field(default=True)


class ModelCache(Generic[AnyModel]):
    """Lends each model to one at a time, and ends the least recently used for want of memory."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._door = Lock()  # who waits for memory is not overtaken by others
        self._changed = Condition()
        self._places: OrderedDict[str, CachedPlace[AnyModel]] = (
            OrderedDict()
        )  # the last is the newest

    @contextmanager
    def lend(
        self, need: Need, make: Callable[[], AnyModel], stop: Flag | None = None
    ) -> Iterator[AnyModel]:
        """Lend the model of a key, made if it isn't there; wait while others hold it, or memory.

        Raises UserError when there can't be memory for it, StoppedError when `stop` comes first:
        then nothing is made, and nothing is ended for it.
        """
        stop = stop or Flag()
        with self._entered(stop):
            place = self._take(need, stop) or self._add(need, make, stop)
        try:
            yield place.model
        finally:
            with self._changed:
                place.lent = False
                self._changed.notify_all()

    @property
    def keys(self) -> list[str]:
        """The keys of what is there, least recently used first."""
        with self._changed:
            return list(self._places)

    def is_ready(self, key: str) -> bool:
        """Tell whether a model is there and loaded."""
        with self._changed:
            place = self._places.get(key)
            return place is not None and place.model.alive and place.model.ready

    def require_possible(self, need: Need) -> None:
        """Raise UserError for what could never fit."""
        if need.bytes > self.memory.total:
            raise UserError(
                f"{need.title} needs {gigabytes(need.bytes)} of memory; this {self.memory.name} "
                f"has {gigabytes(self.memory.total)}"
            )

    def clear(self) -> None:
        """End all that is there."""
        with self._changed:
            places = list(self._places.values())
            self._places.clear()
        for place in places:
            place.model.end()

    @contextmanager
    def _entered(self, stop: Flag) -> Iterator[None]:
        """Hold the door, once those before have come through."""
        while not self._door.acquire(timeout=LOOK):
            _require_wanted(stop)
        try:
            yield
        finally:
            self._door.release()

    def _take(self, need: Need, stop: Flag) -> CachedPlace[AnyModel] | None:
        """Take what is there; None if nothing that lives is."""
        with self._changed:
            while self._is_lent(need.key):
                self._wait(stop)
            _require_wanted(stop)
            self._bury()
            place = self._places.get(need.key)
            if place is None:
                return None
            place.lent = True
            self._places.move_to_end(need.key)
            return place

    def _bury(self) -> None:
        """Forget what died, whose memory is free already."""
        for key, place in list(self._places.items()):
            if not place.lent and not place.model.alive:
                self._remove(key)

    def _is_lent(self, key: str) -> bool:
        return key in self._places and self._places[key].lent

    def _wait(self, stop: Flag) -> None:
        """Wait for a change, as long as it is wanted."""
        _require_wanted(stop)
        while not self._changed.wait(LOOK):
            _require_wanted(stop)

    def _add(self, need: Need, make: Callable[[], AnyModel], stop: Flag) -> CachedPlace[AnyModel]:
        """Make a model once there is room for it."""
        self.require_possible(need)
        with self._changed:
            while need.bytes > (free := self._free()):
                _require_wanted(stop)
                self._make_room(need, free, stop)
        place = CachedPlace(make(), need.bytes)
        with self._changed:
            self._places[need.key] = place
        return place

    def _free(self) -> int:
        """Return the free bytes that nothing in the cache is still going to take."""
        places = self._places.values()
        promised = sum(map(self._promised, places))
        unlent = self.memory.total - sum(place.bytes for place in places)
        return min(self.memory.free() - promised, unlent)

    def _promised(self, place: CachedPlace[AnyModel]) -> int:
        """Return the bytes that a model is still going to take.

        What a process has on a GPU nobody tells: all of it once the model is loaded.
        """
        if self.memory.holds_processes:
            return max(0, place.bytes - place.model.resident)
        return 0 if place.model.ready else place.bytes

    def _make_room(self, need: Need, free: int, stop: Flag) -> None:
        """End the least recently used model that nobody holds, or wait until there is one."""
        idle = next((key for key, place in self._places.items() if not place.lent), None)
        if idle is not None:
            self._remove(idle)
        elif self._places:
            self._wait(stop)
        else:
            raise UserError(
                f"{need.title} needs {gigabytes(need.bytes)} of memory; of the "
                f"{gigabytes(self.memory.total)} of this {self.memory.name} only "
                f"{gigabytes(max(0, free))} are free now. Try again later"
            )

    def _remove(self, key: str) -> None:
        self._places.pop(key).model.end()


def _require_wanted(stop: Flag) -> None:
    if stop.is_set():
        raise StoppedError


@dataclass(eq=False)
class QueueEntry:
    """A request in line for one model."""

    model: str
    prepared: bool = False  # whether it could start
    running: bool = False


class RequestQueue:
    """First come, first served; only those whose model is at work or still on its way let pass."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self.at_once = at_once
        self.waiting = waiting
        self._changed = Condition()
        self._line: list[QueueEntry] = []  # without those that run
        self._running: list[QueueEntry] = []

    def join(self, model: str) -> QueueEntry:
        """Enter the line; raise UserError when it is full."""
        with self._changed:
            if len(self._line) >= self.waiting:
                raise UserError(
                    f"{len(self._line)} answers are already waiting for their turn, which is the "
                    "limit. Try again in a minute"
                )
            entry = QueueEntry(model)
            self._line.append(entry)
            return entry

    def places(self, entry: QueueEntry, stop: Flag) -> Iterator[int]:
        """Yield the place in line (1 is next) as it changes, until it's the entry's turn or stop.

        Afterwards `entry.running` says which of the two it was.
        """
        told = None
        while not stop.is_set():
            with self._changed:
                entry.prepared = True
                if self._may_start(entry):
                    self._start(entry)
                    return
                place = self._line.index(entry) + 1
                if place == told:
                    self._changed.wait(LOOK)
                    continue
            told = place
            yield place

    def leave(self, entry: QueueEntry) -> None:
        """Go out of the line, or give the turn back."""
        with self._changed:
            for group in (self._line, self._running):
                if entry in group:
                    group.remove(entry)
            entry.running = False
            self._changed.notify_all()

    def _start(self, entry: QueueEntry) -> None:
        self._line.remove(entry)
        self._running.append(entry)
        entry.running = True
        self._changed.notify_all()

    def _may_start(self, entry: QueueEntry) -> bool:
        """Tell whether there is a turn, and nobody before this one could take it."""
        if len(self._running) >= self.at_once:
            return False
        return next((each for each in self._line if self._could_start(each)), None) is entry

    def _could_start(self, entry: QueueEntry) -> bool:
        at_work = {each.model for each in self._running}
        return entry.prepared and entry.model not in at_work
