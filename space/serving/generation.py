"""Answers for visitors: in turn, within limits, by models that come when they are asked for.

One function, `perform`, has two implementations: `WorkerGeneration` with a process for each model,
and `InProcessGeneration` for ZeroGPU, which lends the GPU to decorated functions of the app's own
process only.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from typing import Generic, TypeVar

from hubq.errors import UserError
from serving.machine import Memory, cores, number_bytes
from serving.memory_estimate import footprint
from serving.messages import (
    Event,
    Failed,
    Finished,
    Loading,
    Order,
    Queued,
    Request,
    Scoring,
    in_words,
)
from serving.model_cache import Need, Shelf, StoppedError, Thing
from serving.model_files import Fetching
from serving.request_queue import Ticket, Turns
from serving.worker import Job
from serving.worker_process import Worker

AnyThing = TypeVar("AnyThing", bound=Thing)


@dataclass(frozen=True)
class Limits:
    """What visitors may ask for, and how many at once."""

    characters: int = 20_000  # of all messages
    input_tokens: int = 2048
    new_tokens: int = 512
    at_once: int = field(default_factory=lambda: min(4, cores()))
    waiting: int = 16
    silence: float = 300.0  # seconds after which a worker counts as stuck

    @property
    def tokens(self) -> int:
        """The tokens of a prompt and its answer."""
        return self.input_tokens + self.new_tokens

    def check(self, order: Order) -> None:
        """Raise UserError for what is too much, or nothing."""
        if isinstance(order, Scoring):
            return  # its messages were checked when it was answered, its length will be
        if not order.messages or not order.messages[-1].content.strip():
            raise UserError("there is nothing to answer: the prompt is empty")
        length = sum(len(each.content) for each in order.messages)
        if length > self.characters:
            raise UserError(
                f"the messages have {length:,} characters and at most {self.characters:,} are "
                "read here: shorten them, or begin a new chat"
            )
        if order.settings.max_new_tokens > self.new_tokens:
            raise UserError(
                f"an answer may have {self.new_tokens} tokens here, not "
                f"{order.settings.max_new_tokens}: ask for fewer"
            )


class Generation(ABC, Generic[AnyThing]):
    """What both ways have in common: fetch, wait for a turn and for memory, answer."""

    def __init__(self, limits: Limits, memory: Memory, fetching: Fetching) -> None:
        self.limits = limits
        self.fetching = fetching
        self.shelf: Shelf[AnyThing] = Shelf(memory)
        self.turns = Turns(limits.at_once, limits.waiting)

    def generate(self, request: Request, stop: Flag | None = None) -> Iterator[Event]:
        """Yield an answer's events; the last is Finished or Failed. `stop` ends it early."""
        return self.perform(request, stop or Flag())

    def score(self, order: Scoring, stop: Flag | None = None) -> Iterator[Event]:
        """Yield the events of scoring; the last is Scores or Failed, or Finished on `stop`."""
        return self.perform(order, stop or Flag())

    def perform(self, order: Order, stop: Flag) -> Iterator[Event]:
        """Yield the events of an order; what goes wrong is an event in words, never raised."""
        try:
            self.limits.check(order)
            ticket = self.turns.join(order.model.name)
        except UserError as error:
            yield Failed(text=str(error))
            return
        try:
            yield from self._in_turn(order, ticket, stop)
        except StoppedError:
            yield Finished(reason="stopped")
        except UserError as error:
            yield self.failed(str(error), order)
        finally:
            self.turns.leave(ticket)

    def close(self) -> None:
        """End all that is loaded."""
        self.shelf.clear()

    def failed(self, text: str, order: Order) -> Failed:
        """Say what went wrong, without a name of the model but its title."""
        folder = self.fetching.known_folder(order.model)
        return Failed(text=in_words(text, order, folder))

    @abstractmethod
    def make(self, folder: Path) -> AnyThing:
        """Begin to load a model."""

    @abstractmethod
    def use(self, thing: AnyThing, order: Order, stop: Flag) -> Iterator[Event]:
        """Yield the events of an order that has its turn and its model."""

    def _in_turn(self, order: Order, ticket: Ticket, stop: Flag) -> Iterator[Event]:
        model = order.model
        if self.fetching.known_folder(model) is None:
            yield Loading(text=f"fetching {order.title}")
        need = self._need(order)
        if stop.is_set():
            raise StoppedError
        folder = self.fetching.folder(model)
        for place in self.turns.places(ticket, stop):
            yield Queued(place=place)
        if not ticket.running:
            raise StoppedError
        if not self.shelf.is_ready(model.name):
            yield Loading(text=f"loading {order.title}")
        with self.shelf.lend(need, lambda: self.make(folder), stop) as thing:
            yield from self.use(thing, order, stop)

    def number(self) -> int:
        """Return the bytes of a number in the dtype that models run in."""
        return number_bytes()

    def _need(self, order: Order) -> Need:
        """Foretell what the model takes; raise UserError if it can never fit, before fetching."""
        outline = self.fetching.outline(order.model)
        try:
            size = footprint(
                outline.config,
                outline.tensors,
                self.limits.tokens,
                self.limits.new_tokens,
                self.number(),
            )
        except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
            raise UserError(f"the config.json of {order.title} is damaged") from error
        need = Need(order.model.name, order.title, size)
        self.shelf.require_possible(need)
        return need


class WorkerGeneration(Generation[Worker]):
    """A process for each model."""

    def make(self, folder: Path) -> Worker:
        """Start a process, which begins to load; raise UserError where the system refuses."""
        job = Job(
            folder=folder,
            most_input=self.limits.input_tokens,
            most_tokens=self.limits.tokens,
        )
        try:
            return Worker(job, max(1, cores() // self.limits.at_once), self.limits.silence)
        except OSError as error:  # no memory for it, or too many processes
            raise UserError(f"no process can be started now ({error}). Try again later") from error

    def use(self, thing: Worker, order: Order, stop: Flag) -> Iterator[Event]:
        """Wait until the model is loaded and pass its events on."""
        failed = thing.load(stop)
        if failed is not None:
            yield self.failed(failed.text, order)
        elif stop.is_set():
            yield Finished(reason="stopped")
        else:
            yield from thing.ask(order, stop)
