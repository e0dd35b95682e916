"""The compiled loop that rounds columns one after another, and the levels it rounds to."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hubq.tensors.kernels.numba_parallel import (
    ROWS,
    Codes,
    Flags,
    Floats,
    Places,
    as_array,
    parallel,
)


@dataclass(frozen=True)
class Levels:
    """Evenly spaced levels (code - zero) * scale for each group of columns and each row.

    A zero may lie between two codes: one bit with a scale of 2a and a zero of 0.5 - m / 2a has
    the levels m - a and m + a. With a table the levels are table[code] * scale instead.
    """

    scale: Tensor  # (groups, out) float32
    zero: Tensor  # (groups, out) float32
    top: Tensor  # (groups,) float32: the largest code, at most 255
    # (columns,) int64: the group of each column. A whole layer's are on the CPU, so that no block
    # waits for a device to know its groups; those that `at` returns are where the scales are.
    group: Tensor
    table: Tensor | None = None  # (entries,) float32, ascending

    @classmethod
    def of(cls, scale: Tensor, zero: Tensor, top: int, group: Tensor) -> "Levels":
        """Return levels from scales and zeros of (out, groups) with one largest code."""
        return cls(
            scale.T.float().contiguous(),
            zero.T.float().contiguous(),
            torch.full((scale.shape[1],), float(top), device=scale.device),
            group.cpu(),
        )

    def in_order(self, order: Tensor) -> "Levels":  # (columns,)
        """Return the levels of the columns in another order."""
        return replace(self, group=self.group[order.cpu()])

    def at(self, columns: slice) -> "Levels":
        """Return the levels of some of the columns, without those of groups that have none there.

        Groups that are neighbours are a view of these levels, not a copy.
        """
        used, group = torch.unique(self.group[columns], return_inverse=True)
        first, last = int(used[0]), int(used[-1])
        own = slice(first, last + 1) if last - first < len(used) else used
        return replace(
            self,
            scale=self.scale[own],
            zero=self.zero[own],
            top=self.top[own],
            group=group.to(self.scale.device),
        )

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return what the compiled loop takes."""
        return tuple(map(as_array, (self.scale, self.zero, self.top, self.group)))

    def table_arrays(self) -> tuple[NDArray[Any], ...]:
        """Return the table and the limits between its entries; nothing without a table."""
        table = torch.empty(0) if self.table is None else self.table
        return as_array(table), as_array((table[1:] + table[:-1]) / 2)


# Where the mask (columns, out) is set, a weight has these levels instead of those of its group.
Exceptions = tuple[Tensor, Levels]


def round_columns(
    weight: Tensor,  # (block, out) float32: the columns of a layer
    moved: Tensor,  # (block, out) float32: the same with the feedback of earlier blocks
    feedback: Tensor,  # (block, block) float32, strictly upper part used
    levels: Levels,
    exceptions: Exceptions | None = None,
) -> tuple[Tensor, Tensor]:  # codes (block, out) uint8; errors (block, out) float32
    """Round columns in turn, each moved by the errors of those before it."""
    arrays = [as_array(each) for each in (weight, moved, feedback)]
    mask, others = exceptions or (torch.empty(0, 0, dtype=torch.bool), levels)
    codes = np.empty(weight.shape, np.uint8)
    errors = np.empty(weight.shape, np.float32)
    _compiled(masked=exceptions is not None, tabled=levels.table is not None)(
        *arrays,
        *levels.arrays(),
        *levels.table_arrays(),
        *(as_array(mask), *others.arrays()),
        *(codes, errors),
    )
    return torch.from_numpy(codes).to(weight.device), torch.from_numpy(errors).to(weight.device)


@cache
def _compiled(*, masked: bool, tabled: bool) -> Callable[..., None]:
    """Compile the loop at its first use, with no more than it needs: what it lacks is faster."""
    from numba import prange

    @parallel(frozenset({"contract"}))
    def round_rows(  # noqa: PLR0913 - a compiled loop takes arrays, not objects
        weight: Floats,
        moved: Floats,
        feedback: Floats,
        scale: Floats,
        zero: Floats,
        top: Floats,
        group: Places,
        table: Floats,
        limits: Floats,
        mask: Flags,
        other_scale: Floats,
        other_zero: Floats,
        other_top: Floats,
        other_group: Places,
        codes: Codes,
        errors: Floats,
    ) -> None:
        columns, out = weight.shape
        for chunk in prange((out + ROWS - 1) // ROWS):
            begin = chunk * ROWS
            rows = min(ROWS, out - begin)
            work = np.empty((columns, ROWS), np.float32)
            error = np.empty(ROWS, np.float32)
            work[:, :rows] = moved[:, begin : begin + rows]
            for i in range(columns):
                for row in range(rows):
                    step, middle = scale[group[i], begin + row], zero[group[i], begin + row]
                    last = top[group[i]]
                    if masked and mask[i, begin + row]:
                        step = other_scale[other_group[i], begin + row]
                        middle = other_zero[other_group[i], begin + row]
                        last = other_top[other_group[i]]
                    if tabled:
                        code = np.float32(0)
                        for limit in limits:
                            code += np.float32(work[i, row] > limit * step)
                        level = table[np.int64(code)]
                    else:
                        # Only what the zero lies above a code is added before rounding.
                        whole = np.floor(middle)
                        code = np.rint(work[i, row] / step + (middle - whole)) + whole
                        code = min(max(code, np.float32(0)), last)
                        level = code - middle
                    codes[i, begin + row] = np.uint8(code)
                    error[row] = weight[i, begin + row] - level * step
                    errors[i, begin + row] = error[row]
                for j in range(i + 1, columns):
                    share = feedback[i, j]
                    for row in range(rows):
                        work[j, row] += error[row] * share

    compiled: Callable[..., None] = round_rows
    return compiled
