"""The shift of each group of weights by which their codes have the most entropy.

Codes are those of the nearest level once the shift is taken off and the rest is divided by its
greatest magnitude. A code's boundary is thus a number among the sorted weights, and codes are
counted between two of them. The entropy of n codes is log₂ n - Σ c log₂ c / n, where c are their
counts: the terms are whole numbers here, so that sums are the same in any order, and ties are ties.
"""

from functools import cache
from math import log2

import torch
from torch import Tensor

from hubq.tensors.kernels.choice import tool_for
from hubq.tensors.kernels.numba_loops import code_entropy as numba_loops
from hubq.tensors.kernels.torch_loops import code_entropy as torch_loops

UNIT = 1 << 20  # of the terms


def most_even_shift(weight: Tensor, middles: Tensor, factors: Tensor) -> Tensor:
    """Return of each group of weights (out, groups, width) its shift, (out, groups) float32.

    The candidates are 0 and the group's median, the lower one, plus each factor times the greatest
    distance from it. Of equals it's 0, else that of the smallest factor, and of two such the
    negative one. `middles` lie between neighbouring levels, as shares of the greatest magnitude.
    All are float32 and ascending. A group with NaN has the shift 0.
    """
    by_numba = tool_for(weight.device) == "numba"
    loop = numba_loops.most_even_shift if by_numba else torch_loops.most_even_shift
    return loop(weight, middles, factors, terms(weight.shape[2]))


@cache
def terms(width: int) -> Tensor:  # (width + 1,) int64
    """Return c log₂ c of each count, in 2^-20."""
    return torch.tensor([round(count * log2(max(1, count)) * UNIT) for count in range(width + 1)])
