"""Two sign planes: finding four levels, and rounding columns to them one after another."""

from torch import Tensor

from hubq.tensors.kernels.choice import tool_for
from hubq.tensors.kernels.numba_loops import sign_planes as numba_loops
from hubq.tensors.kernels.torch_loops import sign_planes as torch_loops

LEAST = 1e-6  # of the mean energy, added to each: sums and differences of them stay exact enough


def fit_levels(
    weight: Tensor,  # (out, width) float32: a group of columns
    energy: Tensor,  # (width,) float32
    apart: Tensor,  # (width,) bool
    *,
    means: bool,
) -> tuple[Tensor, Tensor]:  # (3, 2, out), (2, out)
    """Return the levels that lose least for the columns not apart and those apart, and the loss.

    The levels are the larger scale, the smaller one and the mean. Of a row's columns on a side
    with NaN, they are NaN.
    """
    energy = energy + LEAST * energy.mean()
    by_numba = tool_for(weight.device) == "numba"
    loop = numba_loops.fit_levels if by_numba else torch_loops.fit_levels
    return loop(weight, energy, apart, means=means)


def round_to_signs(
    weight: Tensor,  # (block, out) float32: the columns of a layer
    moved: Tensor,  # (block, out) float32: the same with the feedback of earlier blocks
    feedback: Tensor,  # (block, block) float32, strictly upper part used
    levels: Tensor,  # (3, sets, out) float32: the larger scale, the smaller one and the mean
    its_set: Tensor,  # (block,) int64
) -> tuple[Tensor, Tensor]:  # codes (block, out) uint8; errors (block, out) float32
    """Round columns in turn to mean ± larger ± smaller; a code's bits are the two signs.

    NaN lies above nothing: it has the code 0, and its error is NaN only where the weight or its
    levels are.
    """
    tool = tool_for(weight.device)
    if tool == "numba":
        return numba_loops.round_to_signs(weight, moved, feedback, levels, its_set)
    given = (weight, moved, feedback, levels[:, its_set])
    if tool == "torch":
        return torch_loops.round_to_signs(*given)
    from hubq.tensors.kernels.triton_loops.sign_planes import round_to_signs as by_triton

    return by_triton(*given)


def sign_errors(weight: Tensor, codes: Tensor, levels: Tensor, its_set: Tensor) -> Tensor:
    """Return the weight (block, out) minus what its codes stand for; as in `round_to_signs`."""
    if tool_for(weight.device) == "numba":
        return numba_loops.sign_errors(weight, codes, levels, its_set)
    return torch_loops.sign_errors(weight, codes, levels[:, its_set])
