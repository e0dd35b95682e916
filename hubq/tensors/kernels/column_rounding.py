"""Rounding columns one after another, and the levels to which they are rounded."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hubq.tensors.kernels.choice import tool_for
from hubq.tensors.kernels.numba_loops import column_rounding as numba_loops
from hubq.tensors.kernels.numba_loops.parallel import as_array
from hubq.tensors.kernels.torch_loops import column_rounding as torch_loops


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
    """Round columns in turn, each moved by the errors of those before it.

    NaN has the code 0. Its error is NaN, and so are those of the row's later columns; with a table
    it is only where the weight itself is NaN, since NaN lies above no limit.
    """
    tool = tool_for(weight.device)
    if tool == "numba":
        return _by_numba((weight, moved, feedback), levels, exceptions)
    given = (weight, moved, feedback, spread(levels, exceptions), levels.table)
    if tool == "torch":
        return torch_loops.round_columns(*given)
    from hubq.tensors.kernels.triton_loops.column_rounding import round_columns as by_triton

    return by_triton(*given)


def _by_numba(
    block: tuple[Tensor, Tensor, Tensor], levels: Levels, exceptions: Exceptions | None
) -> tuple[Tensor, Tensor]:
    weight = block[0]
    mask, others = exceptions or (torch.empty(0, 0, dtype=torch.bool), levels)
    codes = np.empty(weight.shape, np.uint8)
    errors = np.empty(weight.shape, np.float32)
    numba_loops.compiled(masked=exceptions is not None, tabled=levels.table is not None)(
        *map(as_array, block),
        *levels.arrays(),
        *levels.table_arrays(),
        *(as_array(mask), *others.arrays()),
        *(codes, errors),
    )
    return torch.from_numpy(codes), torch.from_numpy(errors)


def spread(levels: Levels, exceptions: Exceptions | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return each weight's scale, zero and largest code, (block, out) each."""
    scale, zero = levels.scale[levels.group], levels.zero[levels.group]
    top = levels.top[levels.group][:, None].expand_as(scale)
    if exceptions is None:
        return scale, zero, top
    mask, others = exceptions
    found = zip(spread(others), (scale, zero, top), strict=True)
    scale, zero, top = (torch.where(mask, other, each) for other, each in found)
    return scale, zero, top
