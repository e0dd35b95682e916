"""The levels of bitsandbytes' data types, which its kernels know by heart."""

import torch
from torch import Tensor

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
