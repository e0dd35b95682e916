"""The compiled loops: what a column solver does to each row, many rows at a time.

Every row of a weight is rounded on its own against the same factor, so the sequential part (one
column after another) runs as one machine-code loop a row, and only the update of the columns that
are still to come is a matrix product.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 128  # columns that are rounded before the rest of the matrix is updated

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
RoundRows = Callable[[Floats, Floats, Floats, Floats, int, Codes, Floats], None]


def round_columns(
    weight: Tensor,  # (out, block) float32
    spread: Tensor,  # (block, block) float32, upper triangular with ones on the diagonal
    scale: Tensor,  # (out, block) float32
    zero: Tensor,  # (out, block) float32
    levels: int,
) -> tuple[Tensor, Tensor]:  # codes (out, block) uint8; errors (out, block) float32
    """Round the columns of a block from left to right, each error spread over those after it."""
    # The loop works on a copy of the weight: a numpy view would change the caller's.
    work = weight.cpu().clone(memory_format=torch.contiguous_format).numpy()
    given = [each.cpu().contiguous().numpy() for each in (spread, scale, zero)]
    codes = np.empty(work.shape, np.uint8)
    errors = np.empty(work.shape, np.float32)
    _round_rows()(work, given[0], given[1], given[2], levels, codes, errors)
    return torch.from_numpy(codes).to(weight.device), torch.from_numpy(errors).to(weight.device)


@cache
def _round_rows() -> RoundRows:
    """Compile the loop at its first use; numba takes half a second to import."""
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.get_num_threads()))

    @numba.njit(parallel=True, cache=True, error_model="numpy")
    def round_rows(  # noqa: PLR0913 - a compiled loop takes arrays, not objects
        work: Floats,
        spread: Floats,
        scale: Floats,
        zero: Floats,
        levels: int,
        codes: Codes,
        errors: Floats,
    ) -> None:
        out, columns = work.shape
        for row in numba.prange(out):
            for i in range(columns):
                code = np.rint(work[row, i] / scale[row, i]) + zero[row, i]
                code = min(max(code, np.float32(0)), np.float32(levels))
                error = work[row, i] - (code - zero[row, i]) * scale[row, i]
                codes[row, i] = np.uint8(code)
                errors[row, i] = error
                for j in range(i + 1, columns):
                    work[row, j] -= error * spread[i, j]

    compiled: RoundRows = round_rows
    return compiled
