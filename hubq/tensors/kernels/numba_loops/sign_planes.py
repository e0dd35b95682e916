"""The compiled loops for two sign planes: finding four levels and rounding columns to them."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from hubq.tensors.kernels.numba_loops.parallel import (
    ROWS,
    Codes,
    Flags,
    Floats,
    Places,
    as_array,
    parallel,
)


def fit_levels(
    weight: Tensor,  # (out, width)
    energy: Tensor,  # (width,)
    apart: Tensor,  # (width,) bool
    *,
    means: bool,
) -> tuple[Tensor, Tensor]:  # (3, 2, out), (2, out)
    """Return the levels that lose least for the columns not apart and those apart, and the loss."""
    levels = np.zeros((3, 2, len(weight)), np.float32)
    loss = np.zeros((2, len(weight)), np.float32)
    _compiled_fit()(*map(as_array, (weight, energy, apart)), means, levels, loss)
    return torch.from_numpy(levels), torch.from_numpy(loss)


@cache
def _compiled_fit() -> Callable[..., None]:
    from numba import prange

    @parallel()
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
    weight: Tensor,  # (block, out)
    moved: Tensor,  # (block, out)
    feedback: Tensor,  # (block, block), strictly upper part used
    levels: Tensor,  # (3, sets, out)
    its_set: Tensor,  # (block,) int64
) -> tuple[Tensor, Tensor]:  # codes (block, out) uint8; errors (block, out)
    """Round columns in turn to mean ± larger ± smaller; a code's bits are the two signs."""
    codes = np.empty(weight.shape, np.uint8)
    errors = np.empty(weight.shape, np.float32)
    arrays = map(as_array, (weight, moved, feedback, levels, its_set))
    _compiled_signs()(*arrays, codes, errors)
    return torch.from_numpy(codes), torch.from_numpy(errors)


@cache
def _compiled_signs() -> Callable[..., None]:
    from numba import prange

    @parallel(frozenset({"contract"}))
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
    _compiled_errors()(*map(as_array, (weight, codes, levels, its_set)), errors)
    return torch.from_numpy(errors)


@cache
def _compiled_errors() -> Callable[..., None]:
    from numba import prange

    @parallel(frozenset({"contract"}))
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
