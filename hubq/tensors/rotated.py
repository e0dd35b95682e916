"""Rotated weights: another representation between two random orthogonal matrices from a seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from hubq.rotation import unrotate
from hubq.tensors.quantized import QuantizedTensor

SEED_BITS = 64


@dataclass(frozen=True)
class Rotated(QuantizedTensor):
    """W = Uᵀ inner V diag(1 / diagonal), where U (out, out) and V (in, in) come from the seed."""

    inner: QuantizedTensor
    diagonal: Tensor  # (in,) 16-bit
    seed: int
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's (out, in)."""
        return self.inner.shape

    def dequantize(self) -> Tensor:
        """Turn the inner matrix back and divide its columns by the diagonal."""
        return unrotate(self.inner.dequantize(), self.seed) / self.diagonal.float()

    def stored_bits(self) -> float:
        """Count the inner matrix, the diagonal and the seed."""
        out, columns = self.shape
        diagonal = columns * self.diagonal.dtype.itemsize * 8
        return self.inner.stored_bits() + (diagonal + SEED_BITS) / (out * columns)
