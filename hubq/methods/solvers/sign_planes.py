"""A weight on its way to two planes of signs: four levels for each row and set of columns.

The levels are mean ± larger ± smaller. Both a residual binarization of order 2 and a split into
small and large weights are of this form (hubq/tensors/binary.py), and so both are fitted alike.
Everything is transposed and in solving order, as hubq/methods/solvers/column_solver.py has it.
"""

import torch
from torch import Tensor

from hubq.methods.solvers.column_solver import Hessian
from hubq.tensors import Affine, Grid
from hubq.tensors.kernels.sign_plane_refit import refit_levels
from hubq.tensors.kernels.sign_planes import fit_levels, round_to_signs, sign_errors


class Planes:
    """The levels and the signs of one layer; each group of columns is two sets.

    Set 2g holds the columns of group g that are not apart, set 2g + 1 those that are.
    """

    def __init__(
        self, weight: Tensor, hessian: Hessian, apart: Tensor, group_size: int, *, means: bool
    ) -> None:  # (out, in), (in,) bool
        self.means = means
        self.columns = hessian.columns(weight)
        self.energy = hessian.energy[hessian.order]
        self.apart = apart[hessian.order]
        self.sets = 2 * (hessian.order // group_size) + self.apart  # (in,) int64
        sets = 2 * -(-len(apart) // group_size)
        # The larger scales, the smaller ones and the means.
        self.levels = torch.zeros(3, sets, len(weight), device=weight.device)
        # Bit 0 is the sign of the larger scale, bit 1 that of the smaller one.
        self.codes = torch.empty(self.columns.shape, dtype=torch.uint8, device=weight.device)

    def fit_and_round(self, here: slice, moved: Tensor, feedback: Tensor) -> Tensor:
        """Fit a group's levels to the weights as the errors so far have moved them, and round."""
        levels, _ = fit_levels(moved.T, self.energy[here], self.apart[here], means=self.means)
        self.levels[:, self._pair(here)] = levels
        return self.round(here, moved, feedback)

    def round(self, here: slice, moved: Tensor, feedback: Tensor) -> Tensor:
        """Round a block to the levels as they stand."""
        self.codes[here], errors = round_to_signs(
            self.columns[here], moved, feedback, self.levels, self.sets[here]
        )
        return errors

    def errors(self, here: slice = slice(None)) -> Tensor:
        """Return the weight minus what its signs and levels stand for."""
        return sign_errors(self.columns[here], self.codes[here], self.levels, self.sets[here])

    def refit(self, here: slice, gradient: Tensor, own: Tensor) -> Tensor:
        """Give a group the levels that lose least of the layer's output, its signs as they are."""
        pair = self._pair(here)
        self.levels[:, pair], self.codes[here] = refit_levels(
            self.codes[here],
            self.apart[here],
            self.levels[:, pair],
            gradient,
            own,
            means=self.means,
        )
        return self.errors(here)

    def store(self, bits: int, dtype: torch.dtype) -> tuple[Affine, ...]:
        """Round the levels to the codes that the file holds, and return them, (out, sets) each."""
        kept = self.levels if self.means else self.levels[:2]
        grid = Grid(bits, scale_dtype=dtype)
        stored = tuple(Affine.fit(each.T, grid) for each in kept)
        for level, each in zip(self.levels, stored, strict=False):
            level.copy_(each.dequantize().T)
        return stored

    def _pair(self, here: slice) -> slice:
        """Return the two sets of the group that a block is."""
        group = int(self.sets[here.start]) // 2
        return slice(2 * group, 2 * group + 2)
