"""The compiled loops: rounding columns one after another, and the error of rounding at once."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROWS = 64  # of a layer, that one pass of the loop holds in the processor's first cache

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
Places = NDArray[np.int64]


def round_columns(
    weight: Tensor,  # (block, out) float32: the columns of a layer
    moved: Tensor,  # (block, out) float32: the same with the feedback of earlier blocks
    feedback: Tensor,  # (block, block) float32, strictly upper part used
    grid: tuple[Tensor, Tensor, Tensor],  # scale, zero: (groups, out) float32; group: (block,)
    levels: int,
) -> tuple[Tensor, Tensor]:  # codes (block, out) uint8; errors (block, out) float32
    """Round columns in turn, each moved by the errors of those before it."""
    scale, zero, group = grid
    arrays = [_array(each) for each in (weight, moved, feedback, scale, zero, group)]
    codes = np.empty(weight.shape, np.uint8)
    errors = np.empty(weight.shape, np.float32)
    _compiled()(*arrays, levels, codes, errors)
    return torch.from_numpy(codes).to(weight.device), torch.from_numpy(errors).to(weight.device)


def _array(tensor: Tensor) -> NDArray[np.generic]:
    array: NDArray[np.generic] = tensor.cpu().contiguous().numpy()
    return array


@cache
def _compiled() -> Callable[..., None]:
    """Compile the loop at its first use; numba takes half a second to import."""
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.get_num_threads()))

    @numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"contract"})
    def round_rows(  # noqa: PLR0913 - a compiled loop takes arrays, not objects
        weight: Floats,
        moved: Floats,
        feedback: Floats,
        scale: Floats,
        zero: Floats,
        group: Places,
        levels: int,
        codes: Codes,
        errors: Floats,
    ) -> None:
        columns, out = weight.shape
        top = np.float32(levels)
        for chunk in numba.prange((out + ROWS - 1) // ROWS):
            begin = chunk * ROWS
            rows = min(ROWS, out - begin)
            work = np.empty((columns, ROWS), np.float32)
            error = np.empty(ROWS, np.float32)
            for i in range(columns):
                for row in range(rows):
                    work[i, row] = moved[i, begin + row]
            for i in range(columns):
                for row in range(rows):
                    step = scale[group[i], begin + row]
                    middle = zero[group[i], begin + row]
                    code = min(max(np.rint(work[i, row] / step) + middle, np.float32(0)), top)
                    codes[i, begin + row] = np.uint8(code)
                    error[row] = weight[i, begin + row] - (code - middle) * step
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
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.get_num_threads()))

    @numba.njit(parallel=True, cache=True, error_model="numpy")
    def error_rows(weight: Floats, scale: Floats, zero: Floats, levels: int, error: Floats) -> None:
        out, groups, width = weight.shape
        top = np.float32(levels)
        for row in numba.prange(out):
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
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.get_num_threads()))

    # The sum may be taken in any order: it decides between clips, and is the same every time.
    @numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
    def loss_rows(  # noqa: PLR0913 - a compiled loop takes arrays, not objects
        weight: Floats, scale: Floats, zero: Floats, energy: Floats, levels: int, loss: Floats
    ) -> None:
        out, groups, width = weight.shape
        top = np.float32(levels)
        for row in numba.prange(out):
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
