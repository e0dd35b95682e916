"""Codebook weights: each code names an entry of a table that all weights share.

The tables are those of bitsandbytes' data types, which its kernels know by heart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hubq.runtime.formulas import codebook_weight, spread
from hubq.tensors.quantized import QuantizedTensor, Values, value_bits, value_rows, values

DATA_TYPES = ("nf4", "fp4", "int8")
# Quantiles of a normal distribution, those below and above 0 apart (Dettmers et al. 2023, app. E).
NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
FP4 = (0, 1 / 16, 8, 12, 4, 6, 2, 3)  # twelfths; the same below 0 have the fourth bit set
OFFSET_BITS = 32


def levels(data_type: str) -> Tensor:  # (16,) float32, or (256,) float64
    """Return the level of each code.

    The library multiplies int8 codes by their scale first, which is exact, and then by 1/127 in
    float32; in float64 this order loses nothing either, and rounds to the same float32.
    """
    if data_type == "int8":
        return torch.arange(-128, 128) * torch.tensor(1 / 127).double()
    if data_type == "nf4":
        return torch.tensor(NF4)
    twelfths = torch.tensor(FP4)
    return torch.cat([twelfths, 0 - twelfths]) / 12


def data_type_of(table: Tensor) -> str | None:
    """Name the data type that has these levels, or None; a table without data has none."""
    if table.is_meta:
        return None
    return next((name for name in DATA_TYPES if torch.equal(levels(name), table.cpu())), None)


@dataclass(frozen=True)
class Codebook(QuantizedTensor):
    """w = table[code] * (scale + offset) + shift, with both for each row and group of columns.

    A scale of shape (1, 1) is that of the whole matrix. In a flat one groups run on over the ends
    of rows, as if the matrix were a single row.
    """

    codes: Tensor  # (out, in) uint8
    table: Tensor  # (entries,) float32, ascending or not; or float64, for products rounded once
    scale: Values  # (out, groups); (1, groups) when flat; or (1, 1)
    bits: int
    group_size: int  # columns; the last group may be ragged
    offset: float = 0.0  # of quantized scales, a float32: the mean that was taken off them
    shift: Values | None = None  # (out, groups), or (1, groups) when flat
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

    def rows(self, which: slice) -> Tensor:
        """Look the codes up and scale them, in float32."""
        scale = values(self.scale) if self.shared else self._of_groups(self.scale, which)
        shift = None if self.shift is None else self._of_groups(self.shift, which)
        width = 1 if self.flat else self.group_size
        found = codebook_weight(self.codes[which], self.table, scale + self.offset, width, shift)
        return found.float()

    def _of_groups(self, given: Values, which: slice) -> Tensor:
        """Return scales or shifts of some rows; of a flat matrix each weight's."""
        if self.flat:
            return spread(values(given), self.group_size, which, self.shape)
        return value_rows(given, which)

    def theoretical_bits(self) -> float:
        """Count the codes, the scales, their offset, the shifts and the table."""
        out, columns = self.shape
        table = 0 if self.implied else self.table.numel() * 32 + OFFSET_BITS
        shift = 0 if self.shift is None else value_bits(self.shift)
        return self.bits + (value_bits(self.scale) + shift + table) / (out * columns)
