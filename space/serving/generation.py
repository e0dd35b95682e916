"""Answers for visitors: in turn, within limits, by models that come when they are asked for.

One function, `perform`, has two implementations. `WorkerGeneration` has a process for each model.
`InProcessGeneration` is for ZeroGPU, which lends its GPU to decorated functions of the app only.
Such a function runs in a fork of the app that lives for some calls. Models are loaded by the app
beforehand, without using up GPU time, and the fork moves a model over; a fork that is older than
a model loads it itself. Nothing but records crosses, so a stop is a generator that is closed.
What ZeroGPU itself refuses (a used up quota) is raised as gradio.Error, in words for visitors.
torch is imported where a model is in this process: workers import it in theirs.
"""

import gc
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Generic, TypeVar

from hubq.errors import UserError
from hubq.sources.vision import cannot_see
from serving.machine import Memory, cores, number_bytes
from serving.messages import (
    LAST,
    PICTURE_TOKENS,
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
from serving.model_cache import (
    CachedModel,
    ModelCache,
    Need,
    QueueEntry,
    RequestQueue,
    StoppedError,
)
from serving.model_files import ModelFiles, estimate_memory
from serving.worker_process import Job, Worker

if TYPE_CHECKING:
    from serving.loaded_model import LoadedModel

MOVING = 15.0  # seconds of GPU time for bringing a model to it
A_TOKEN = 1 / 16  # seconds of GPU time, for a large model

AnyModel = TypeVar("AnyModel", bound=CachedModel)
Run = Callable[[Order, Path], Generator[Event, None, None]]


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
                f"an answer may have at most {self.new_tokens} tokens here, not "
                f"{order.settings.max_new_tokens}: ask for fewer"
            )


class Generation(ABC, Generic[AnyModel]):
    """What both ways have in common: fetch, wait for a turn and for memory, answer."""

    def __init__(self, limits: Limits, memory: Memory, files: ModelFiles) -> None:
        self.limits = limits
        self.files = files
        self.cache: ModelCache[AnyModel] = ModelCache(memory)
        self.queue = RequestQueue(limits.at_once, limits.waiting)

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
            entry = self.queue.join(order.model.name)
        except UserError as error:
            yield Failed(text=str(error))
            return
        try:
            yield from self._in_turn(order, entry, stop)
        except StoppedError:
            yield Finished(reason="stopped")
        except UserError as error:
            yield self.failed(str(error), order)
        finally:
            self.queue.leave(entry)

    def close(self) -> None:
        """End all that is loaded."""
        self.cache.clear()

    def failed(self, text: str, order: Order) -> Failed:
        """Say what went wrong, without a name of the model but its title."""
        folder = self.files.known_folder(order.model)
        return Failed(text=in_words(text, order, folder))

    @abstractmethod
    def make(self, folder: Path) -> AnyModel:
        """Begin to load a model."""

    @abstractmethod
    def use(self, loaded: AnyModel, order: Order, stop: Flag) -> Iterator[Event]:
        """Yield the events of an order that has its turn and its model."""

    def _in_turn(self, order: Order, entry: QueueEntry, stop: Flag) -> Iterator[Event]:
        model = order.model
        if self.files.known_folder(model) is None:
            yield Loading(text=f"files {order.title}")
        need = self._need(order)
        self._require_sight(order)
        if stop.is_set():
            raise StoppedError
        folder = self.files.folder(model)
        for place in self.queue.places(entry, stop):
            yield Queued(place=place)
        if not entry.running:
            raise StoppedError
        if not self.cache.is_ready(model.name):
            yield Loading(text=f"loading {order.title}")
        with self.cache.lend(need, lambda: self.make(folder), stop) as loaded:
            yield from self.use(loaded, order, stop)

    def number(self) -> int:
        """Return the bytes of a number in the dtype that models run in."""
        return number_bytes()

    def _need(self, order: Order) -> Need:
        """Estimate what the model takes; raise UserError if it can never fit, before fetching."""
        outline = self.files.outline(order.model)
        more = PICTURE_TOKENS if outline.sees else 0
        try:
            size = estimate_memory(
                outline.config,
                outline.tensors,
                self.limits.tokens + more,
                self.limits.new_tokens,
                self.number(),
            )
        except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
            raise UserError(f"the config.json of {order.title} is damaged") from error
        need = Need(order.model.name, order.title, size)
        self.cache.require_possible(need)
        return need

    def _require_sight(self, order: Order) -> None:
        """Raise UserError for a picture that the model can't see, before it is fetched."""
        asked = isinstance(order, Request) and order.pictures
        if asked and not self.files.outline(order.model).sees:
            raise UserError(cannot_see(order.title))


class WorkerGeneration(Generation[Worker]):
    """A process for each model."""

    def make(self, folder: Path) -> Worker:
        """Start a process, which begins to load; raise UserError where the system refuses."""
        job = Job(
            folder=folder,
            most_input=self.limits.input_tokens,
            most_tokens=self.limits.tokens,
            threads=max(1, cores() // self.limits.at_once),
        )
        try:
            return Worker(job, self.limits.silence)
        except OSError as error:  # no memory for it, or too many processes
            raise UserError(f"no process can be started now ({error}). Try again later") from error

    def use(self, loaded: Worker, order: Order, stop: Flag) -> Iterator[Event]:
        """Wait until the model is loaded and pass its events on."""
        failed = loaded.load(stop)
        if failed is not None:
            yield self.failed(failed.text, order)
        elif stop.is_set():
            yield Finished(reason="stopped")
        else:
            yield from loaded.ask(order, stop)


@dataclass(eq=False)
class InProcessModel:
    """A model of this process."""

    folder: Path
    bytes: int
    models: "dict[Path, LoadedModel]"

    @property
    def alive(self) -> bool:
        """Whether it is loaded."""
        return self.folder in self.models

    @property
    def ready(self) -> bool:
        """Whether it is loaded."""
        return self.alive

    @property
    def resident(self) -> int:
        """The bytes of its weights."""
        return self.bytes

    def end(self) -> None:
        """Forget the model."""
        self.models.pop(self.folder, None)
        gc.collect()


class InProcessGeneration(Generation[InProcessModel]):
    """All models in this process, and the work in a function for the GPU."""

    def __init__(self, limits: Limits, memory: Memory, files: ModelFiles) -> None:
        super().__init__(limits, memory, files)
        self._models: dict[Path, LoadedModel] = {}
        self._run: Run = on_gpu(self._run_on_device)

    def make(self, folder: Path) -> InProcessModel:
        """Load a model into this process."""
        loaded = self._load(folder)
        size = sum(each.numel() * each.element_size() for each in loaded.model.parameters())
        return InProcessModel(folder, int(size), self._models)

    def number(self) -> int:
        """Return the bytes of a number in the dtype that models run in, on the GPU if need be."""
        from hubq.machine.device import best_device, compute_dtype

        return 4 if compute_dtype(best_device().type) == "float32" else 2

    def use(self, loaded: InProcessModel, order: Order, stop: Flag) -> Iterator[Event]:
        """Pass the events on until they end or somebody stops them."""
        with closing(self._run(order, loaded.folder)) as events:
            for event in events:
                yield event
                if stop.is_set() and not isinstance(event, LAST):
                    yield Finished(reason="stopped")
                    return

    def _run_on_device(self, order: Order, folder: Path) -> Generator[Event, None, None]:
        """Carry an order out on the device there is: what runs in the fork."""
        from hubq.machine.device import best_device
        from serving.decoding import run_request

        loaded = self._load(folder)
        loaded.model.to(best_device())
        yield from run_request(
            loaded, order, self.limits.input_tokens, self.limits.tokens, lambda: False
        )

    def _load(self, folder: Path) -> "LoadedModel":
        from serving.loaded_model import LoadedModel

        if folder not in self._models:
            self._models[folder] = LoadedModel.load(folder, device="cpu")
        return self._models[folder]


def on_gpu(function: Run) -> Run:
    """Decorate a generator function with spaces.GPU where that package is; else leave it."""
    if find_spec("spaces") is None:
        return function
    import spaces

    decorated: Run = spaces.GPU(function, duration=seconds)
    return decorated


def seconds(order: Order, folder: Path) -> int:
    """Estimate the GPU time of an order, by which ZeroGPU judges whether a visitor has enough."""
    tokens = order.settings.max_new_tokens if isinstance(order, Request) else 0
    return round(MOVING + tokens * A_TOKEN)
