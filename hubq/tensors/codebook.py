"""Codebook weights: each code names an entry of a table that all weights share."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hubq.runtime.formulas import codebook_weight
from hubq.tensors.quantized import QuantizedTensor, Values, value_bits, values

OFFSET_BITS = 32


@dataclass(frozen=True)
class Codebook(QuantizedTensor):
    """w = table[code] * (scale + offset), with a scale for each row and group of columns.

    A scale of shape (1, 1) is that of the whole matrix. In a flat one groups run on over the ends
    of rows, as if the matrix were a single row.
    """

    codes: Tensor  # (out, in) uint8
    table: Tensor  # (entries,) float32, ascending or not; or float64, for products rounded once
    scale: Values  # (out, groups); (1, groups) when flat; or (1, 1)
    bits: int
    group_size: int  # columns; the last group may be ragged
    offset: float = 0.0  # of quantized scales, a float32: the mean that was taken off them
    flat: bool = False
    implied: bool = False  # the table goes without saying: files leave it out
    dtype: torch.dtype = torch.float32  # of the weight before, in which readers may compute
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's (out, in)."""
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def shared(self) -> bool:
        """Whether one scale is that of the whole matrix."""
        return tuple(self.scale.shape) == (1, 1)

    def dequantize(self) -> Tensor:
        """Look the codes up and scale them, in float32."""
        scale = values(self.scale) + self.offset
        codes = self.codes.reshape(1, -1) if self.flat else self.codes
        return codebook_weight(codes, self.table, scale, self.group_size).view(self.shape).float()

    def theoretical_bits(self) -> float:
        """Count the codes, the scales, their offset and the table."""
        out, columns = self.shape
        table = 0 if self.implied else self.table.numel() * 32 + OFFSET_BITS
        return self.bits + (value_bits(self.scale) + table) / (out * columns)
