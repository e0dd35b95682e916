"""The compiled loops: rounding columns one after another, and the error of rounding at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROWS = 64  # of a layer, that one pass of the loop holds in the processor's first cache
LLOYD = 8  # steps: groups of 64 hardly move after 5

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Levels:
    """Evenly spaced levels (code - zero) * scale for each group of columns and each row.

    A zero may lie between two codes: one bit with a scale of 2a and a zero of 0.5 - m / 2a has
    the levels m - a and m + a. With a table the levels are table[code] * scale instead.
    """

    scale: Tensor  # (groups, out) float32
    zero: Tensor  # (groups, out) float32
    top: Tensor  # (groups,) float32: the largest code, at most 255
    group: Tensor  # (columns,) int64: the group of each column
    table: Tensor | None = None  # (entries,) float32, ascending

    @classmethod
    def of(cls, scale: Tensor, zero: Tensor, top: int, group: Tensor) -> "Levels":
        """Return levels from scales and zeros of (out, groups) with one largest code."""
        return cls(
            scale.T.float().contiguous(),
            zero.T.float().contiguous(),
            torch.full((scale.shape[1],), float(top), device=scale.device),
            group.to(scale.device),
        )

    def at(self, columns: slice | Tensor) -> "Levels":
        """Return the levels of some of the columns."""
        return replace(self, group=self.group[columns])

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return what the compiled loop takes."""
        return tuple(map(_array, (self.scale, self.zero, self.top, self.group)))

    def table_arrays(self) -> tuple[NDArray[Any], ...]:
        """Return the table and the limits between its entries; nothing without a table."""
        table = torch.empty(0) if self.table is None else self.table
        return _array(table), _array((table[1:] + table[:-1]) / 2)


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
    arrays = [_array(each) for each in (weight, moved, feedback)]
    mask, others = exceptions or (torch.empty(0, 0, dtype=torch.bool), levels)
    codes = np.empty(weight.shape, np.uint8)
    errors = np.empty(weight.shape, np.float32)
    _compiled(masked=exceptions is not None, tabled=levels.table is not None)(
        *arrays,
        *levels.arrays(),
        *levels.table_arrays(),
        *(_array(mask), *others.arrays()),
        *(codes, errors),
    )
    return torch.from_numpy(codes).to(weight.device), torch.from_numpy(errors).to(weight.device)


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().contiguous().numpy()
    return array


def _parallel(fastmath: frozenset[str] = frozenset()) -> Callable[..., Any]:
    """Return numba's decorator, on torch's number of threads; numba takes half a second to load."""
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.get_num_threads()))
    decorator: Callable[..., Any] = numba.njit(
        parallel=True, cache=True, error_model="numpy", fastmath=set(fastmath)
    )
    return decorator


@cache
def _compiled(*, masked: bool, tabled: bool) -> Callable[..., None]:
    """Compile the loop at its first use, with no more than it needs: what it lacks is faster."""
    from numba import prange

    @_parallel(frozenset({"contract"}))
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


def rounding_error(weight: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
    """Return the rounded minus the given weights, all (out, groups, width), in one pass.

    Scales and zeros are (out, groups) float32.
    """
    arrays = [_array(each) for each in (weight, scale, zero)]
    error = np.empty(weight.shape, np.float32)
    _compiled_error()(*arrays, levels, error)
    return torch.from_numpy(error)


@cache
def _compiled_error() -> Callable[..., None]:
    from numba import prange

    @_parallel()
    def error_rows(weight: Floats, scale: Floats, zero: Floats, levels: int, error: Floats) -> None:
        out, groups, width = weight.shape
        top = np.float32(levels)
        for row in prange(out):
            for group in range(groups):
                step, middle = scale[row, group], zero[row, group]
                for i in range(width):
                    given = weight[row, group, i]
                    code = min(max(np.rint(given / step) + middle, np.float32(0)), top)
                    error[row, group, i] = (code - middle) * step - given

    compiled: Callable[..., None] = error_rows
    return compiled


def rounding_loss(
    weight: Tensor, scale: Tensor, zero: Tensor, levels: int, energy: Tensor
) -> Tensor:
    """Return the squared errors of rounding times each input's energy, summed: (out, groups).

    The weight is (out, groups, width), scales and zeros (out, groups), the energy (groups, width).
    """
    arrays = [_array(each) for each in (weight, scale, zero, energy)]
    loss = np.empty(scale.shape, np.float32)
    _compiled_loss()(*arrays, levels, loss)
    return torch.from_numpy(loss)


@cache
def _compiled_loss() -> Callable[..., None]:
    from numba import prange

    # The sum may be taken in any order: it decides between clips, and is the same every time.
    @_parallel(frozenset({"reassoc", "contract"}))
    def loss_rows(  # noqa: PLR0913 - a compiled loop takes arrays, not objects
        weight: Floats, scale: Floats, zero: Floats, energy: Floats, levels: int, loss: Floats
    ) -> None:
        out, groups, width = weight.shape
        top = np.float32(levels)
        for row in prange(out):
            for group in range(groups):
                step, middle = scale[row, group], zero[row, group]
                total = np.float32(0)
                for i in range(width):
                    given = weight[row, group, i]
                    code = min(max(np.rint(given / step) + middle, np.float32(0)), top)
                    error = (code - middle) * step - given
                    total += error * error * energy[group, i]
                loss[row, group] = total

    compiled: Callable[..., None] = loss_rows
    return compiled


def two_means(weight: Tensor, energy: Tensor, without: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the half distance of the two levels that fit each group best.

    The weight and the mask `without` of weights that don't count are (out, groups, width), the
    inputs' energy is (groups, width), the results are (out, groups). Lloyd's iteration, weighted.
    """
    arrays = [_array(each) for each in (weight, energy, without)]
    middle = np.empty(weight.shape[:2], np.float32)
    half = np.empty_like(middle)
    _compiled_means()(*arrays, middle, half)
    return torch.from_numpy(middle).to(weight.device), torch.from_numpy(half).to(weight.device)


@cache
def _compiled_means() -> Callable[..., None]:
    from numba import prange

    @_parallel(frozenset({"reassoc", "contract"}))
    def means_rows(
        weight: Floats, energy: Floats, without: Flags, middle: Floats, half: Floats
    ) -> None:
        out, groups, width = weight.shape
        for row in prange(out):
            for group in range(groups):
                mass = moment = np.float32(0)
                for i in range(width):
                    share = np.float32(0) if without[row, group, i] else energy[group, i]
                    mass += share
                    moment += share * weight[row, group, i]
                between = moment / mass if mass > 0 else np.float32(0)
                distance = np.float32(0)
                for _ in range(LLOYD):
                    upper = upper_moment = np.float32(0)
                    for i in range(width):
                        given = weight[row, group, i]
                        share = np.float32(0) if without[row, group, i] else energy[group, i]
                        if given > between:
                            upper += share
                            upper_moment += share * given
                    lower = mass - upper
                    if upper <= 0 or lower <= np.float32(1e-6) * mass:
                        break
                    high, low = upper_moment / upper, (moment - upper_moment) / lower
                    between, distance = (high + low) / 2, (high - low) / 2
                middle[row, group], half[row, group] = between, distance

    compiled: Callable[..., None] = means_rows
    return compiled
