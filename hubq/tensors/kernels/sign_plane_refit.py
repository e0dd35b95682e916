"""Fitting the levels of two sign planes again, by least squares."""

from torch import Tensor

from hubq.tensors.kernels.choice import tool_for
from hubq.tensors.kernels.numba_loops import sign_plane_refit as numba_loops
from hubq.tensors.kernels.torch_loops import sign_plane_refit as torch_loops


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

    Larger >= smaller >= 0 again, as rounding wants them; the codes follow. Where a row's gradient
    has NaN, its levels are NaN, and its codes are of no use.
    """
    by_numba = tool_for(codes.device) == "numba"
    loop = numba_loops.refit_levels if by_numba else torch_loops.refit_levels
    return loop(codes, apart, levels, gradient, own, means=means)
