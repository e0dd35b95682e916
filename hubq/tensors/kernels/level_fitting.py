"""Fitting levels: what rounding to them loses, and the best two of them.

On other devices all of it is plain torch, as there no loop waits for itself.
"""

from torch import Tensor

from hubq.tensors.kernels.choice import tool_for
from hubq.tensors.kernels.numba_loops import level_fitting as numba_loops
from hubq.tensors.kernels.torch_loops import level_fitting as torch_loops


def rounding_error(weight: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
    """Return the rounded minus the given weights, all (out, groups, width), in one pass.

    Scales and zeros are (out, groups) float32.
    """
    by_numba = tool_for(weight.device) == "numba"
    loop = numba_loops.rounding_error if by_numba else torch_loops.rounding_error
    return loop(weight, scale, zero, levels)


def rounding_loss(
    weight: Tensor, scale: Tensor, zero: Tensor, levels: int, energy: Tensor
) -> Tensor:
    """Return the squared errors of rounding times each input's energy, summed: (out, groups).

    The weight is (out, groups, width), scales and zeros (out, groups), the energy (groups, width).
    """
    by_numba = tool_for(weight.device) == "numba"
    loop = numba_loops.rounding_loss if by_numba else torch_loops.rounding_loss
    return loop(weight, scale, zero, levels, energy)


def two_means(weight: Tensor, energy: Tensor, without: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the half distance of the two levels that fit each group best.

    The weight and the mask `without` of weights that don't count are (out, groups, width), the
    inputs' energy is (groups, width), the results are (out, groups). Lloyd's iteration, weighted.
    A group with NaN has a mean of NaN and a distance of 0.
    """
    by_numba = tool_for(weight.device) == "numba"
    loop = numba_loops.two_means if by_numba else torch_loops.two_means
    return loop(weight, energy, without)
