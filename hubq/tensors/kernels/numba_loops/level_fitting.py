"""The compiled loops that fit levels: what rounding to them loses, and the best two of them."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from hubq.tensors.kernels.numba_loops.parallel import Flags, Floats, as_array, parallel

LLOYD = 8  # steps: groups of 64 hardly move after 5


def rounding_error(weight: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
    """Return the rounded minus the given weights, all (out, groups, width), in one pass."""
    arrays = [as_array(each) for each in (weight, scale, zero)]
    error = np.empty(weight.shape, np.float32)
    _compiled_error()(*arrays, levels, error)
    return torch.from_numpy(error)


@cache
def _compiled_error() -> Callable[..., None]:
    from numba import prange

    @parallel()
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
    """Return the squared errors times each input's energy, summed: (out, groups)."""
    arrays = [as_array(each) for each in (weight, scale, zero, energy)]
    loss = np.empty(scale.shape, np.float32)
    _compiled_loss()(*arrays, levels, loss)
    return torch.from_numpy(loss)


@cache
def _compiled_loss() -> Callable[..., None]:
    from numba import prange

    # The sum may be taken in any order: it decides between clips, and is the same every time.
    @parallel(frozenset({"reassoc", "contract"}))
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
    """Return the mean and the half distance of two levels, (out, groups) each."""
    arrays = [as_array(each) for each in (weight, energy, without)]
    middle = np.empty(weight.shape[:2], np.float32)
    half = np.empty_like(middle)
    _compiled_means()(*arrays, middle, half)
    return torch.from_numpy(middle), torch.from_numpy(half)


@cache
def _compiled_means() -> Callable[..., None]:
    from numba import prange

    @parallel(frozenset({"reassoc", "contract"}))
    def means_rows(
        weight: Floats, energy: Floats, without: Flags, middle: Floats, half: Floats
    ) -> None:
        out, groups, width = weight.shape
        for row in prange(out):
            share, pull = np.empty(width, np.float32), np.empty(width, np.float32)
            for group in range(groups):
                given = weight[row, group]
                for i in range(width):
                    share[i] = np.float32(0) if without[row, group, i] else energy[group, i]
                    pull[i] = share[i] * given[i]
                mass, moment = share.sum(), pull.sum()
                between = moment / mass if mass > 0 else np.float32(0)
                distance = np.float32(0)
                for _ in range(LLOYD):
                    upper = upper_moment = np.float32(0)
                    for i in range(width):
                        above = np.float32(given[i] > between)
                        upper += share[i] * above
                        upper_moment += pull[i] * above
                    lower = mass - upper
                    if upper <= 0 or lower <= np.float32(1e-6) * mass:
                        break
                    high, low = upper_moment / upper, (moment - upper_moment) / lower
                    between, distance = (high + low) / 2, (high - low) / 2
                middle[row, group], half[row, group] = between, distance

    compiled: Callable[..., None] = means_rows
    return compiled
