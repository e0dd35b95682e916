"""The compiled search for the shift by which a group's codes have the most entropy.

From one candidate to the next hardly a weight crosses a boundary. So each boundary keeps its place
among the sorted weights, and codes are counted anew only when one has passed a neighbour, which all
boundaries are asked in one go.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from hubq.tensors.kernels.numba_loops.parallel import Floats, Places, as_array, parallel

LANES = 16  # of the widest instructions in float32


def most_even_shift(weight: Tensor, middles: Tensor, factors: Tensor, terms: Tensor) -> Tensor:
    """Return the shift of each group, (out, groups)."""
    ordered = np.sort(as_array(weight), axis=2)
    lanes = torch.nn.functional.pad(middles, (0, -len(middles) % LANES))
    arrays = [as_array(each) for each in (lanes, factors, terms)]
    shift = np.empty(weight.shape[:2], np.float32)
    _compiled_search()(ordered, *arrays, len(middles), shift)
    return torch.from_numpy(shift)


@cache
def _compiled_search() -> Callable[..., None]:  # noqa: C901 - one loop
    from numba import prange

    @parallel()
    def search_rows(  # noqa: C901, PLR0913 - one loop, which takes arrays, not objects
        ordered: Floats, middles: Floats, factors: Floats, terms: Places, edges: int, shift: Floats
    ) -> None:
        out, groups, width = ordered.shape
        for row in prange(out):
            # The weights, between two that no boundary passes; lanes without one stay there.
            given = np.empty(width + 2, np.float32)
            given[0], given[width + 1] = -np.inf, np.inf
            below = np.full(len(middles), -np.inf, np.float32)
            above = np.full(len(middles), np.inf, np.float32)
            place = np.empty(edges, np.int64)  # how many weights are not above each boundary
            for group in range(groups):
                given[1 : width + 1] = ordered[row, group]
                low, high, median = given[1], given[width], given[1 + (width - 1) // 2]
                reach = max(high - median, median - low)
                place[:], below[:edges], above[:edges] = 0, given[0], given[1]
                total = least = terms[width]
                nearest = np.float32(np.inf)
                for number in range(-1, len(factors)):
                    middle, near = np.float32(0), np.float32(-1)
                    if number >= 0:
                        middle, near = median + factors[number] * reach, abs(factors[number])
                    scale = max(high - middle, middle - low)
                    passed = np.int32(0)
                    for lane in range(len(middles)):
                        bound = middle + middles[lane] * scale
                        passed |= np.int32(above[lane] <= bound) | np.int32(below[lane] > bound)
                    if passed:
                        before, total = 0, terms[0]
                        for edge in range(edges):
                            bound, at = middle + middles[edge] * scale, place[edge]
                            while at < width and given[at + 1] <= bound:
                                at += 1
                            while at > 0 and given[at] > bound:
                                at -= 1
                            place[edge], below[edge], above[edge] = at, given[at], given[at + 1]
                            total += terms[at - before]
                            before = at
                        total += terms[width - before]
                    if total < least or (total == least and near < nearest):
                        least, nearest, shift[row, group] = total, near, middle

    compiled: Callable[..., None] = search_rows
    return compiled
