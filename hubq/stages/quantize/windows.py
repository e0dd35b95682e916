"""The calibration windows of a walk: which of their tokens there are, and how much each counts.

Windows of their own lengths are filled up at the right, where causal attention never looks: so a
block needs no mask, what it makes of the filling is never read, and a batch ends with its longest
window. What is gathered of a batch is gathered of the tokens that count.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hubq.sources.calibration_tokens import Tokens
from hubq.stages.quantize.block import batches
from hubq.stages.quantize.streams import Part


class Counted(NamedTuple):
    """Which tokens of a batch count, and how much."""

    places: Tensor  # (some,) int64, in the batch's tokens in a row
    weights: Tensor | None  # (some,) float32; None: all alike

    def of(self, values: Tensor) -> Tensor:  # (windows, length, width)
        """Return the numbers of the tokens that count, (some, width)."""
        return values.flatten(0, -2).index_select(0, self.places.to(values.device))

    def rooted(self, values: Tensor) -> Tensor:  # (some, width)
        """Multiply each token's by the root of its weight, so that their squares are weighed."""
        if self.weights is None:
            return values
        return values * self.weights.sqrt().to(values.device)[:, None]


class Windows:
    """Windows that a walk reads batch by batch."""

    def __init__(self, weights: Tensor | None = None) -> None:
        """Take how much each token counts, (windows, length); None: all of them, alike."""
        self.weights = None if weights is None else weights.cpu()
        self.lengths: list[int] = []  # of each window, up to its last token that counts
        if self.weights is not None:
            ends = torch.arange(1, self.weights.shape[1] + 1)
            self.lengths = (ends * (self.weights > 0)).amax(1).clamp(min=1).tolist()

    def batches(self, shape: torch.Size) -> Iterator[Part]:
        """Cut a stream of a shape (windows, length, ...) into runs of about BATCH_TOKENS tokens."""
        if self.weights is None:
            yield from batches(*shape[:2])
            return
        begin = 0
        while begin < len(self.lengths):
            some = next(batches(len(self.lengths) - begin, self.lengths[begin]))
            here = slice(begin, begin + some.stop)
            yield here, slice(0, max(self.lengths[here]))
            begin = here.stop

    def tokens(self, shape: torch.Size) -> int:
        """Return how many tokens of a stream of a shape (windows, length, ...) count."""
        return shape[:2].numel() if self.weights is None else int((self.weights > 0).sum())

    def counted(self, where: Part) -> Counted | None:
        """Return which tokens of a batch count; None: all of them, alike."""
        if self.weights is None:
            return None
        given = self.weights[where].flatten()
        places = given.nonzero()[:, 0]
        weights = given[places]
        return Counted(places, None if bool((weights == 1).all()) else weights)

    def some(self, which: slice) -> "Windows":
        """Return some of the windows."""
        return self if self.weights is None else Windows(self.weights[which])

    def trimmed(self, values: Tensor, which: Tensor) -> Tensor:
        """Cut the values of some windows, (some, length, ...), where the longest of them ends."""
        if self.weights is None:
            return values
        return values[:, : max(self.lengths[each] for each in which.tolist())]


EVERY = Windows()


@dataclass(frozen=True)
class Entering:
    """What enters the blocks: the door for all that a model is calibrated on."""

    hidden: Tensor  # (windows, length, hidden)
    weights: Tensor | None = None  # (windows, length) float32, as `Tokens` has them
    positions: None = None  # rotary: from 0 on in each window, until somebody brings others

    @classmethod
    def of(cls, states: dict[str, Tensor]) -> "Entering":
        """Return what was kept as `states`."""
        return cls(states["hidden"], states.get("weights"))


def kept_of(weights: Tensor | None) -> dict[str, Tensor]:
    """Return what of windows is kept beside their hidden states, so that a walk goes on."""
    return {} if weights is None else {"weights": weights}


def embedded(
    tokens: Tokens,
    rows: Callable[[Tensor], Tensor],
    own: Callable[[Tensor], Tensor] = lambda windows: windows,
) -> Entering:
    """Return the embeddings of the windows that are a process's own; each row is asked for once.

    Windows of their own lengths are sorted, the longest first, so that batches are of like ones.
    """
    ids = own(tokens.ids)
    weights = None if tokens.weights is None else own(tokens.weights)
    if weights is not None:
        lengths = torch.tensor(Windows(weights).lengths)
        order = lengths.argsort(descending=True, stable=True)
        ids, weights = ids[order], weights[order]
    wanted, place = torch.unique(ids, return_inverse=True)
    return Entering(rows(wanted)[place], weights)
