"""A model that reads and writes tokens on a machine: its shape over the machine's rates."""

from collections.abc import Sequence
from typing import NamedTuple

from hubq.machine.device import DTYPES
from hubq.machine.rates import Rates
from hubq.stages.plan.solving import Shapes

LAUNCHES = 2e-3  # seconds a block in which a decoding step does nothing but begin its operations
SOFTMAX = 20  # bytes a logit that are read and written until its distribution is compared


class Shape(NamedTuple):
    """What of a model decides how long it runs."""

    blocks: int
    groups: Sequence[Shapes]  # of one block
    hidden: int
    vocabulary: int

    @property
    def weights(self) -> int:
        """The weights of one block's linears."""
        return sum(out * columns for shapes in self.groups for out, columns in shapes)

    @property
    def inputs(self) -> list[int]:
        """The widths of a block's inputs; linears that share one count once."""
        return [shapes[0][1] for shapes in self.groups]

    @property
    def widths(self) -> tuple[int, int]:
        """The widths of the hidden states and of the feed-forward part."""
        return self.hidden, max(self.inputs)


class Run:
    """A model that reads tokens on a device."""

    def __init__(self, shape: Shape, rates: Rates, dtype: str) -> None:
        self.shape, self.rates, self.dtype = shape, rates, dtype
        self.products = rates.products.get(dtype, min(rates.products.values()))
        self.attention = rates.attention.get(dtype, min(rates.attention.values()))
        self.width = DTYPES[dtype].width

    def blocks(self, tokens: float, length: int) -> float:
        """Return the seconds in which all blocks read tokens, in windows of a length."""
        shape = self.shape
        once = (6 * shape.hidden + 3 * shape.widths[1]) * 2 * self.width / self.rates.passed
        product = 2 * shape.weights / self.products
        attending = 2 * length * shape.hidden / self.attention
        return shape.blocks * tokens * (once + product + attending)

    def head(self, tokens: float) -> float:
        """Return the seconds in which tokens' logits are made and compared."""
        product = 2 * self.shape.hidden / self.products
        return tokens * self.shape.vocabulary * (product + SOFTMAX / self.rates.passed)

    def step(self) -> float:
        """Return the seconds of one decoding step: all weights are read for one token."""
        shape = self.shape
        weights = shape.blocks * shape.weights + shape.hidden * shape.vocabulary
        return self.width * weights / self.rates.passed + LAUNCHES * shape.blocks
