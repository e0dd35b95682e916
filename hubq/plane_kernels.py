"""The compiled loops for two sign planes: finding four levels and rounding columns to them."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from hubq.kernels import ROWS, Codes, Flags, Floats, Places, _array, _parallel

RIDGE = 1e-3  # of each level's own weight when it is fitted again: its set may be one column
LEAST = 1e-6  # of the mean energy, added to each: sums and differences of them stay exact enough


def fit_levels(
    weight: Tensor,  # (out, width) float32: a group of columns
    energy: Tensor,  # (width,) float32
    apart: Tensor,  # (width,) bool
    *,
    means: bool,
) -> tuple[Tensor, Tensor]:  # (3, 2, out), (2, out)
    """Return the levels that lose least for the columns not apart and those apart, and the loss.

    The levels are the larger scale, the smaller one and the mean.
    """
    energy = energy + LEAST * energy.mean()
    levels = np.zeros((3, 2, len(weight)), np.float32)
    loss = np.zeros((2, len(weight)), np.float32)
    _compiled_fit()(*map(_array, (weight, energy, apart)), means, levels, loss)
    return torch.from_numpy(levels).to(weight.device), torch.from_numpy(loss).to(weight.device)


@cache
def _compiled_fit() -> Callable[..., None]:
    from numba import prange

    @_parallel()
    def fit_rows(  # noqa: PLR0913 - a compiled loop takes arrays, not objects
        weight: Floats, energy: Floats, apart: Flags, means: bool, levels: Floats, loss: Floats
    ) -> None:
        out, width = weight.shape
        for row in prange(out):
            far, share = np.empty(width, np.float32), np.empty(width, np.float32)
            for part in range(2):
                count = 0
                mass = moment = square = 0.0
                for i in range(width):
                    if apart[i] == (part == 1):
                        far[count], share[count] = weight[row, i], energy[i]
                        mass += share[count]
                        moment += share[count] * far[count]
                        count += 1
                if count == 0:
                    continue
                mean = np.float32(moment / mass) if means else np.float32(0)
                moment = 0.0
                for i in range(count):
                    far[i] = abs(far[i] - mean)
                    moment += share[i] * far[i]
                    square += share[i] * far[i] * far[i]
                # Each break-point in turn, from below: the level on either side is the mean there.
                low = high = moment / mass
                best = moment * low
                below = below_moment = 0.0
                for i in np.argsort(far[:count])[:-1]:
                    below += share[i]
                    below_moment += share[i] * far[i]
                    above, above_moment = mass - below, moment - below_moment
                    kept = below_moment**2 / below + above_moment**2 / above
                    if kept > best:
                        best = kept
                        low, high = below_moment / below, above_moment / above
                levels[0, part, row] = (high + low) / 2
                levels[1, part, row] = (high - low) / 2
                levels[2, part, row] = mean
                loss[part, row] = square - best

    compiled: Callable[..., None] = fit_rows
    return compiled


def round_to_signs(
    weight: Tensor,  # (block, out) float32: the columns of a layer
    moved: Tensor,  # (block, out) float32: the same with the feedback of earlier blocks
    feedback: Tensor,  # (block, block) float32, strictly upper part used
    levels: Tensor,  # (3, sets, out) float32: the larger scale, the smaller one and the mean
    its_set: Tensor,  # (block,) int64
) -> tuple[Tensor, Tensor]:  # codes (block, out) uint8; errors (block, out) float32
    """Round columns in turn to mean ± larger ± smaller; a code's bits are the two signs."""
    codes = np.empty(weight.shape, np.uint8)
    errors = np.empty(weight.shape, np.float32)
    arrays = map(_array, (weight, moved, feedback, levels, its_set))
    _compiled_signs()(*arrays, codes, errors)
    return torch.from_numpy(codes).to(weight.device), torch.from_numpy(errors).to(weight.device)


@cache
def _compiled_signs() -> Callable[..., None]:
    from numba import prange

    @_parallel(frozenset({"contract"}))
    def sign_rows(  # noqa: PLR0913 - a compiled loop takes arrays, not objects
        weight: Floats,
        moved: Floats,
        feedback: Floats,
        levels: Floats,
        its_set: Places,
        codes: Codes,
        errors: Floats,
    ) -> None:
        columns, out = weight.shape
        for chunk in prange((out + ROWS - 1) // ROWS):
            begin = chunk * ROWS
            rows = min(ROWS, out - begin)
            work = np.empty((columns, ROWS), np.float32)
            error = np.empty(ROWS, np.float32)
            for i in range(columns):
                for row in range(rows):
                    work[i, row] = moved[i, begin + row]
            for i in range(columns):
                its = its_set[i]
                for row in range(rows):
                    larger, smaller = levels[0, its, begin + row], levels[1, its, begin + row]
                    mean = levels[2, its, begin + row]
                    above = work[i, row] > mean
                    first = mean + larger if above else mean - larger
                    further = work[i, row] > first
                    error[row] = weight[i, begin + row] - (
                        first + smaller if further else first - smaller
                    )
                    codes[i, begin + row] = np.uint8(above) | np.uint8(further) << np.uint8(1)
                    errors[i, begin + row] = error[row]
                for j in range(i + 1, columns):
                    share = feedback[i, j]
                    for row in range(rows):
                        work[j, row] += error[row] * share

    compiled: Callable[..., None] = sign_rows
    return compiled


def sign_errors(weight: Tensor, codes: Tensor, levels: Tensor, its_set: Tensor) -> Tensor:
    """Return the weight (block, out) minus what its codes stand for; as in `round_to_signs`."""
    errors = np.empty(weight.shape, np.float32)
    _compiled_errors()(*map(_array, (weight, codes, levels, its_set)), errors)
    return torch.from_numpy(errors).to(weight.device)


@cache
def _compiled_errors() -> Callable[..., None]:
    from numba import prange

    @_parallel(frozenset({"contract"}))
    def error_columns(
        weight: Floats, codes: Codes, levels: Floats, its_set: Places, errors: Floats
    ) -> None:
        columns, out = weight.shape
        for i in prange(columns):
            its = its_set[i]
            for row in range(out):
                larger, smaller = levels[0, its, row], levels[1, its, row]
                first = larger if codes[i, row] & 1 else -larger
                second = smaller if codes[i, row] & 2 else -smaller
                errors[i, row] = weight[i, row] - (levels[2, its, row] + first + second)

    compiled: Callable[..., None] = error_columns
    return compiled


def refit_levels(  # noqa: PLR0913 - the parts of the normal equations
    codes: Tensor,  # (width, out) uint8: a group of columns
    apart: Tensor,  # (width,) bool
    levels: Tensor,  # (3, 2, out) float32
    gradient: Tensor,  # (width, out) float32: G e, with the errors e as they are
    own: Tensor,  # (width, width) float32: the group's part of G
    *,
    means: bool,
) -> tuple[Tensor, Tensor]:  # (3, 2, out), (width, out)
    """Return the levels that lose least of the layer's output with the signs as they are.

    Larger >= smaller >= 0 again, as rounding wants them; the codes follow.
    """
    out = codes.shape[1]
    fitted, renamed = _array(levels).copy(), _array(codes).copy()
    normal, change = np.zeros((6, 6, out), np.float32), np.zeros((6, out), np.float32)
    sides = _array(apart)
    _compiled_equations()(renamed, sides, _array(gradient), _array(own), normal, change)
    if not means:
        normal[[2, 5]] = normal[:, [2, 5]] = change[[2, 5]] = 0
    _compiled_elimination()(normal, change)
    fitted += change.reshape(2, 3, out).swapaxes(0, 1)
    _compiled_renaming()(fitted, sides, renamed)
    return torch.from_numpy(fitted).to(levels.device), torch.from_numpy(renamed).to(codes.device)


@cache
def _compiled_equations() -> Callable[..., None]:
    from numba import prange

    @_parallel(frozenset({"contract"}))
    def equation_rows(  # noqa: PLR0913 - a compiled loop takes arrays, not objects
        codes: Codes, apart: Flags, gradient: Floats, own: Floats, normal: Floats, right: Floats
    ) -> None:
        """Add up S G Sᵀ and S G e; S has the larger's signs, the smaller's and ones, by side."""
        width, out = codes.shape
        for chunk in prange((out + ROWS - 1) // ROWS):
            begin = chunk * ROWS
            rows = min(ROWS, out - begin)
            here = codes[:, begin : begin + rows]
            signs = np.ones((3, width, ROWS), np.float32)
            signs[0, :, :rows] = 2 * (here & 1).astype(np.float32) - 1
            signs[1, :, :rows] = 2 * (here >> 1).astype(np.float32) - 1
            pulled = np.empty((6, ROWS), np.float32)
            for j in range(width):
                pulled[:] = 0
                for k in range(width):
                    share, side = own[j, k], 3 * apart[k]
                    for row in range(rows):
                        pulled[side, row] += share * signs[0, k, row]
                        pulled[side + 1, row] += share * signs[1, k, row]
                        pulled[side + 2, row] += share
                for plane in range(3):
                    i = 3 * apart[j] + plane
                    for row in range(rows):
                        right[i, begin + row] += gradient[j, begin + row] * signs[plane, j, row]
                    for other in range(6):
                        for row in range(rows):
                            normal[other, i, begin + row] += (
                                pulled[other, row] * signs[plane, j, row]
                            )

    compiled: Callable[..., None] = equation_rows
    return compiled


@cache
def _compiled_elimination() -> Callable[..., None]:
    from numba import prange

    @_parallel()
    def eliminate_rows(normal: Floats, right: Floats) -> None:
        """Solve definite equations in place; an unknown without any is zero."""
        count, out = right.shape
        for row in prange(out):
            left, solution = normal[:, :, row].astype(np.float64), right[:, row].astype(np.float64)
            for i in range(count):
                left[i, i] = left[i, i] * (1 + RIDGE) if left[i, i] > 0 else 1.0
            for i in range(count):
                for j in range(i + 1, count):
                    share = left[j, i] / left[i, i]
                    left[j, i:] -= share * left[i, i:]
                    solution[j] -= share * solution[i]
            for i in range(count - 1, -1, -1):
                for j in range(i + 1, count):
                    solution[i] -= left[i, j] * solution[j]
                solution[i] /= left[i, i]
            right[:, row] = solution

    compiled: Callable[..., None] = eliminate_rows
    return compiled


@cache
def _compiled_renaming() -> Callable[..., None]:
    from numba import prange

    @_parallel()
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
