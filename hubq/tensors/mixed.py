"""Mixed weights: groups of columns, each in a representation with its own width."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from hubq.runtime.formulas import mixed_weight
from hubq.tensors.quantized import QuantizedTensor


@dataclass(frozen=True)
class Mixed(QuantizedTensor):
    """Each group of columns belongs to one part; a part holds its columns in their order.

    A part may have no columns.
    """

    parts: tuple[QuantizedTensor, ...]  # each (out, its columns)
    part: Tensor  # (groups,) uint8: the part of each group of columns
    group_size: int  # columns; the last group may be ragged
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's (out, in)."""
        return self.parts[0].shape[0], sum(part.shape[1] for part in self.parts)

    def dequantize(self) -> Tensor:
        """Put each part's columns in their places."""
        parts = [each.dequantize() for each in self.parts]
        return mixed_weight(parts, self.part, self.group_size)

    def theoretical_bits(self) -> float:
        """Count the parts, and what names the part of each group."""
        out, columns = self.shape
        parts = sum(each.theoretical_bits() * out * each.shape[1] for each in self._filled)
        return (parts + self._names) / (out * columns)

    def stored_bits(self) -> float:
        """Count what the parts take, and what names the part of each group."""
        out, columns = self.shape
        parts = sum(each.stored_bits() * out * each.shape[1] for each in self._filled)
        return (parts + self._names) / (out * columns)

    @property
    def name_bits(self) -> int:
        """The bits that name a part."""
        return max(1, (len(self.parts) - 1).bit_length())

    @property
    def _names(self) -> int:
        return self.part.numel() * self.name_bits

    @property
    def _filled(self) -> list[QuantizedTensor]:
        return [each for each in self.parts if each.shape[1]]
