"""A model over the windows of texts: one forward pass for all tasks that read the same ones.

Perplexity, a model's own distributions and their divergence from another's all begin with the last
hidden states over the first windows of a text. Those of windows that several tasks of a job read
are kept in memory until the last of these tasks has read them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from hubq.stages.evaluate.inference.decoder import Run, last_states

if TYPE_CHECKING:
    from torch import Tensor

TOKENS_A_BATCH = 4096  # of one forward pass
UNLIMITED = 1 << 62  # windows

Text = tuple[str, int]  # its sha256, and the tokens of a window


class Reading(Protocol):
    """What of a text a task reads."""

    @property
    def text(self) -> str:
        """The text's sha256."""

    @property
    def length(self) -> int:
        """The tokens of a window."""

    @property
    def most(self) -> int | None:
        """How many windows are read at most; None: all."""


class Passed(NamedTuple):
    """Some windows that went through the model."""

    first: int  # the number of the first
    windows: "Tensor"  # (windows, length) token ids
    states: "Tensor"  # (windows, length - 1, hidden): what the head predicts all but the first from


class Passes:
    """A loaded model with its folder, and the states that several tasks share."""

    def __init__(self, model: Any, folder: Path, tasks: Iterable[Reading] = ()) -> None:  # noqa: ANN401
        self.model = model
        self.folder = folder
        self._readers = readers(tasks)
        self._kept: dict[Text, list[Tensor]] = defaultdict(list)

    def over(self, task: Reading, windows: "Tensor") -> Iterator[Passed]:
        """Yield the states over windows (windows, length) of a task's text, some at a time."""
        text, size = (task.text, task.length), max(1, TOKENS_A_BATCH // task.length)
        batches = [windows[first : first + size] for first in range(0, len(windows), size)]
        kept = self._kept[text]
        known = [
            number < len(kept) and len(kept[number]) >= len(each)
            for number, each in enumerate(batches)
        ]
        runs = (Run(each) for each, is_known in zip(batches, known, strict=True) if not is_known)
        found = last_states(self.model, runs)
        for number, batch in enumerate(batches):
            first, device = number * size, self.model.device
            if known[number]:
                states = kept[number][: len(batch)].to(device)
            else:
                states = next(found)[:, :-1]
                if number == len(kept) and any(first < most for most in self._readers[text][1:]):
                    kept.append(states.cpu())
            yield Passed(first, batch.to(device), states)
        self._readers[text] = self._readers[text][1:]
        if not self._readers[text]:
            self._kept.pop(text, None)


def readers(tasks: Iterable[Reading]) -> dict[Text, list[int]]:
    """Return how many windows each task reads at most of its text, in the order of the tasks."""
    read: dict[Text, list[int]] = defaultdict(list)
    for task in tasks:
        read[task.text, task.length].append(task.most or UNLIMITED)
    return read
