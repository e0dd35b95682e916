"""Rotated weights: another representation between two random orthogonal matrices from a seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from hubq.runtime.formulas import rotated_weight
from hubq.runtime.rotation import turns
from hubq.tensors.quantized import QuantizedTensor

SEED_BITS = 64


@dataclass(frozen=True)
class Rotated(QuantizedTensor):
    """W = Uᵀ inner V diag(1 / diagonal), where U (out, out) and V (in, in) come from the seed."""

    inner: QuantizedTensor
    diagonal: Tensor  # (in,) in 16 bits or 8
    seed: int  # from 0 to 2^63 - 1
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's (out, in)."""
        return self.inner.shape

    def dequantize(self) -> Tensor:
        """Turn the inner matrix back and divide its columns by the diagonal."""
        return rotated_weight(self.inner.dequantize(), self.diagonal, self.seed)

    def theoretical_bits(self) -> float:
        """Count the inner matrix, the diagonal and the seed."""
        return self.inner.theoretical_bits() + self._own_bits()

    def stored_bits(self) -> float:
        """Count what the inner matrix takes, the diagonal and the seed."""
        return self.inner.stored_bits() + self._own_bits()

    def _own_bits(self) -> float:
        out, columns = self.shape
        diagonal = columns * self.diagonal.dtype.itemsize * 8
        return (diagonal + SEED_BITS) / (out * columns)


def rotate(weight: Tensor, seed: int) -> Tensor:  # (out, in)
    """Return U W Vᵀ in float32."""
    output, inputs = turns(weight.shape[0], weight.shape[1], seed, weight.device)
    turned = inputs.forth(weight.float()).T.contiguous()
    return output.forth(turned).T.contiguous()
