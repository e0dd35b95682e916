"""The compiled loops that fit the levels of two sign planes again: least squares, row by row.

They take numbers one by one: the same in expressions of whole arrays takes three times as long to
compile, fifteen seconds more, and runs no faster.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from hubq.tensors.kernels.numba_loops.parallel import ROWS, Codes, Flags, Floats, as_array, parallel

RIDGE = 1e-3  # of each level's own weight in the equations: a set may have just one column


def refit_levels(  # noqa: PLR0913 - the parts of the normal equations
    codes: Tensor,  # (width, out) uint8
    apart: Tensor,  # (width,) bool
    levels: Tensor,  # (3, 2, out)
    gradient: Tensor,  # (width, out)
    own: Tensor,  # (width, width)
    *,
    means: bool,
) -> tuple[Tensor, Tensor]:  # (3, 2, out), (width, out)
    """Return the levels that lose least of the layer's output with the signs as they are."""
    out = codes.shape[1]
    fitted, renamed = as_array(levels).copy(), as_array(codes).copy()
    normal, change = np.zeros((6, 6, out), np.float32), np.zeros((6, out), np.float32)
    sides = as_array(apart)
    signs = np.ones((3, *renamed.shape), np.float32)
    signs[0], signs[1] = renamed & 1, renamed >> 1
    signs[:2] *= 2
    signs[:2] -= 1
    _compiled_equations()(signs, sides, as_array(gradient), as_array(own), normal, change)
    if not means:
        normal[[2, 5]] = normal[:, [2, 5]] = change[[2, 5]] = 0
    _compiled_elimination()(normal, change)
    fitted += change.reshape(2, 3, out).swapaxes(0, 1)
    _compiled_renaming()(fitted, sides, renamed)
    return torch.from_numpy(fitted), torch.from_numpy(renamed)


@cache
def _compiled_equations() -> Callable[..., None]:
    from numba import prange

    @parallel(frozenset({"contract"}))
    def equation_rows(  # noqa: PLR0913 - a compiled loop takes arrays, not objects
        signs: Floats, apart: Flags, gradient: Floats, own: Floats, normal: Floats, right: Floats
    ) -> None:
        """Add up S G Sᵀ and S G e; S has the larger's signs, the smaller's and ones, by side."""
        _, width, out = signs.shape
        for chunk in prange((out + ROWS - 1) // ROWS):
            begin = chunk * ROWS
            rows = min(ROWS, out - begin)
            here = signs[:, :, begin : begin + rows].copy()
            for j in range(width):
                pulled = np.zeros((6, ROWS), np.float32)
                for k in range(width):
                    share, side = own[j, k], 3 * apart[k]
                    for row in range(rows):
                        pulled[side, row] += share * here[0, k, row]
                        pulled[side + 1, row] += share * here[1, k, row]
                    pulled[side + 2, 0] += share
                pulled[2], pulled[5] = pulled[2, 0], pulled[5, 0]
                for plane in range(3):
                    i = 3 * apart[j] + plane
                    for row in range(rows):
                        right[i, begin + row] += gradient[j, begin + row] * here[plane, j, row]
                    for other in range(6):
                        for row in range(rows):
                            normal[other, i, begin + row] += (
                                pulled[other, row] * here[plane, j, row]
                            )

    compiled: Callable[..., None] = equation_rows
    return compiled


@cache
def _compiled_elimination() -> Callable[..., None]:
    from numba import prange

    @parallel()
    def eliminate_rows(normal: Floats, right: Floats) -> None:
        """Solve definite equations in place; an unknown without any is zero."""
        count, out = right.shape
        for row in prange(out):
            left = normal[:, :, row].astype(np.float64)
            solution = right[:, row].astype(np.float64)
            for i in range(count):
                left[i, i] = left[i, i] * (1 + RIDGE) if left[i, i] > 0 else 1.0
            for i in range(count):
                for j in range(i + 1, count):
                    share = left[j, i] / left[i, i]
                    solution[j] -= share * solution[i]
                    for k in range(i, count):
                        left[j, k] -= share * left[i, k]
            for i in range(count - 1, -1, -1):
                for j in range(i + 1, count):
                    solution[i] -= left[i, j] * solution[j]
                solution[i] /= left[i, i]
                right[i, row] = solution[i]

    compiled: Callable[..., None] = eliminate_rows
    return compiled


@cache
def _compiled_renaming() -> Callable[..., None]:
    from numba import prange

    @parallel()
    def rename_rows(levels: Floats, apart: Flags, codes: Codes) -> None:
        """Turn and swap planes so that larger >= smaller >= 0: the same weights."""
        width, out = codes.shape
        turned, swapped = np.empty((2, out), np.uint8), np.empty((2, out), np.bool_)
        for side in range(2):
            for row in range(out):
                first, second = levels[0, side, row], levels[1, side, row]
                turned[side, row] = np.uint8(first < 0) | np.uint8(second < 0) << np.uint8(1)
                swapped[side, row] = abs(first) < abs(second)
                levels[0, side, row] = max(abs(first), abs(second))
                levels[1, side, row] = min(abs(first), abs(second))
        for k in prange(width):
            its = 1 if apart[k] else 0
            for row in range(out):
                code = codes[k, row] ^ turned[its, row]
                codes[k, row] = (code & 1) << 1 | code >> 1 if swapped[its, row] else code

    compiled: Callable[..., None] = rename_rows
    return compiled
