"""Reordered weights: the columns of another representation, each in its own place."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from hubq.runtime.formulas import reordered_weight
from hubq.tensors.quantized import QuantizedTensor


@dataclass(frozen=True)
class Reordered(QuantizedTensor):
    """Column order[i] of the weight is column i of `inner`.

    GPTQ with activation order leaves such weights: columns that share a scale are not neighbours.
    No method of hubq makes them, since engines that serve fast no longer take them.
    """

    inner: QuantizedTensor
    order: Tensor  # (in,) int64, a permutation
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's (out, in)."""
        return self.inner.shape

    def dequantize(self) -> Tensor:
        """Put each column in its place."""
        return reordered_weight(self.inner.dequantize(), self.order)

    def theoretical_bits(self) -> float:
        """Count the inner matrix and the order."""
        return self.inner.theoretical_bits() + self._own_bits()

    def stored_bits(self) -> float:
        """Count what the inner matrix takes, and the order."""
        return self.inner.stored_bits() + self._own_bits()

    @property
    def place_bits(self) -> int:
        """The bits that name a column."""
        return max(1, (self.shape[1] - 1).bit_length())

    def _own_bits(self) -> float:
        return self.place_bits / self.shape[0]
