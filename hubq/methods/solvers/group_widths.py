"""The levels of each group of columns at one width: affine, or with one bit binary."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hubq.methods.solvers.binarization import Pair, fit_pair
from hubq.methods.solvers.clipping import search_clipping_range
from hubq.tensors import Affine, Binary, Grid, QuantizedTensor

# Of a binary group's mean and scale. Its levels are so far apart that 2 bits of mantissa lose
# nothing that shows, and a group then costs no more than an affine one.
EIGHT_BITS = torch.float8_e5m2


@dataclass(frozen=True)
class Width:
    """Levels of one width for each (out, groups)."""

    grid: Grid
    scale: Tensor  # float32, rounded to what the file holds
    zero: Tensor  # float32; with one bit the mean, rounded to what the file holds

    @classmethod
    def unset(cls, grid: Grid, shape: Sequence[int], device: str | torch.device) -> "Width":
        """Return levels to be set, for a weight of this (out, in)."""
        scale = torch.zeros(shape[0], grid.groups(shape[1]), device=device)
        return cls(grid, scale, scale.clone())

    def fit(self, groups: Tensor, weight: Tensor, energy: Tensor, clips: int) -> None:
        """Set the levels of some groups, whose weights are (out, groups * width).

        They are those that lose least of the output, weighted by the inputs' energy (in,).
        """
        if self.grid.bits == 1:
            grouped = self.grid.grouped(weight)
            pair = fit_pair(grouped, self.grid.grouped(energy[None])[0])
            scale, zero = pair.scale.to(EIGHT_BITS), pair.mean.to(EIGHT_BITS)
        else:
            scale, zero = self.grid.span(
                weight, search_clipping_range(weight, energy, self.grid, clips)
            )
        self.scale[:, groups], self.zero[:, groups] = scale.float(), zero.float()

    def even(self, groups: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return the scales and zeros of some groups' evenly spaced levels, (out, groups)."""
        scale, zero = self.scale[:, groups], self.zero[:, groups]
        return Pair(zero, scale).even() if self.grid.bits == 1 else (scale, zero)

    def tensor(self, codes: Tensor, groups: Tensor | slice) -> QuantizedTensor:
        """Return the part that some groups make, whose codes are (out, columns)."""
        scale, zero = self.scale[:, groups].contiguous(), self.zero[:, groups].contiguous()
        grid = self.grid
        if grid.bits == 1:
            mean = zero.to(EIGHT_BITS)
            return Binary(codes.bool()[None], (scale.to(EIGHT_BITS),), mean, grid.group_size)
        scale = scale.to(grid.scale_dtype)
        return Affine(codes, scale, zero.to(torch.uint8), grid.bits, grid.group_size)
