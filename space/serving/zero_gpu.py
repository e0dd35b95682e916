"""Models in the app's own process: for ZeroGPU, which lends its GPU to decorated functions only.

Such a function runs in a fork of the app that lives for some calls. Models are loaded by the app
beforehand, without using up GPU time, and the fork moves a model over; a fork that is older than
a model loads it itself. Nothing but records crosses, so a stop is a generator that is closed.
What ZeroGPU itself refuses (a used up quota) is raised as gradio.Error, in words for visitors.
"""

import gc
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Event as Flag

from serving.generation import Generation, Limits
from serving.loaded_model import Voice
from serving.machine import Memory
from serving.messages import LAST, Event, Finished, Order, Request
from serving.model_files import Fetching
from serving.run_request import carry_out

MOVING = 15.0  # seconds of GPU time for bringing a model to it
A_TOKEN = 1 / 16  # seconds of GPU time, for a large model

Run = Callable[[Order, Path], Generator[Event, None, None]]


@dataclass(eq=False)
class Shelved:
    """A model of this process."""

    folder: Path
    bytes: int
    voices: dict[Path, Voice]

    @property
    def alive(self) -> bool:
        """Whether it is loaded."""
        return self.folder in self.voices

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
        self.voices.pop(self.folder, None)
        gc.collect()


class InProcessGeneration(Generation[Shelved]):
    """All models in this process, and the work in a function for the GPU."""

    def __init__(self, limits: Limits, memory: Memory, fetching: Fetching) -> None:
        super().__init__(limits, memory, fetching)
        self._voices: dict[Path, Voice] = {}
        self._run: Run = on_gpu(self._carry_out)

    def make(self, folder: Path) -> Shelved:
        """Load a model into this process."""
        voice = self._voice(folder)
        size = sum(each.numel() * each.element_size() for each in voice.model.parameters())
        return Shelved(folder, int(size), self._voices)

    def number(self) -> int:
        """Return the bytes of a number in the dtype that models run in, on the GPU if need be."""
        from hubq.device import best_device, compute_dtype

        return 4 if compute_dtype(best_device().type) == "float32" else 2

    def use(self, thing: Shelved, order: Order, stop: Flag) -> Iterator[Event]:
        """Pass the events on until they end or somebody stops them."""
        with closing(self._run(order, thing.folder)) as events:
            for event in events:
                yield event
                if stop.is_set() and not isinstance(event, LAST):
                    yield Finished(reason="stopped")
                    return

    def _carry_out(self, order: Order, folder: Path) -> Generator[Event, None, None]:
        """Carry an order out on the device there is: what runs in the fork."""
        from hubq.device import best_device

        voice = self._voice(folder)
        voice.model.to(best_device())
        yield from carry_out(
            voice, order, self.limits.input_tokens, self.limits.tokens, lambda: False
        )

    def _voice(self, folder: Path) -> Voice:
        if folder not in self._voices:
            self._voices[folder] = Voice.load(folder, device="cpu")
        return self._voices[folder]


def on_gpu(function: Run) -> Run:
    """Decorate a generator function with spaces.GPU where that package is; else leave it."""
    if find_spec("spaces") is None:
        return function
    import spaces

    decorated: Run = spaces.GPU(function, duration=seconds)
    return decorated


def seconds(order: Order, folder: Path) -> int:
    """Foretell the GPU time of an order, by which ZeroGPU judges whether a visitor has enough."""
    tokens = order.settings.max_new_tokens if isinstance(order, Request) else 0
    return round(MOVING + tokens * A_TOKEN)
