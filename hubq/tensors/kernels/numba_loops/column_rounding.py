"""The compiled loop that rounds columns one after another."""

from collections.abc import Callable
from functools import cache

import numpy as np

from hubq.tensors.kernels.numba_loops.parallel import ROWS, Codes, Flags, Floats, Places, parallel


@cache
def compiled(*, masked: bool, tabled: bool) -> Callable[..., None]:
    """Compile the loop at its first use, with no more than it needs: what it lacks is faster."""
    from numba import prange

    @parallel(frozenset({"contract"}))
    def round_rows(  # noqa: PLR0913 - a compiled loop takes arrays, not objects
        weight: Floats,
        moved: Floats,
        feedback: Floats,
        scale: Floats,
        zero: Floats,
        top: Floats,
        group: Places,
        table: Floats,
        limits: Floats,
        mask: Flags,
        other_scale: Floats,
        other_zero: Floats,
        other_top: Floats,
        other_group: Places,
        codes: Codes,
        errors: Floats,
    ) -> None:
        columns, out = weight.shape
        for chunk in prange((out + ROWS - 1) // ROWS):
            begin = chunk * ROWS
            rows = min(ROWS, out - begin)
            work = np.empty((columns, ROWS), np.float32)
            error = np.empty(ROWS, np.float32)
            work[:, :rows] = moved[:, begin : begin + rows]
            for i in range(columns):
                for row in range(rows):
                    step, middle = scale[group[i], begin + row], zero[group[i], begin + row]
                    last = top[group[i]]
                    if masked and mask[i, begin + row]:
                        step = other_scale[other_group[i], begin + row]
                        middle = other_zero[other_group[i], begin + row]
                        last = other_top[other_group[i]]
                    if tabled:
                        code = np.float32(0)
                        for limit in limits:
                            code += np.float32(work[i, row] > limit * step)
                        level = table[np.int64(code)]
                    else:
                        # Only what the zero lies above a code is added before rounding.
                        whole = np.floor(middle)
                        code = np.rint(work[i, row] / step + (middle - whole)) + whole
                        code = min(max(code, np.float32(0)), last)
                        level = code - middle
                    # What NaN becomes as an integer would be the processor's choice.
                    codes[i, begin + row] = np.uint8(code if code == code else np.float32(0))
                    error[row] = weight[i, begin + row] - level * step
                    errors[i, begin + row] = error[row]
                for j in range(i + 1, columns):
                    share = feedback[i, j]
                    for row in range(rows):
                        work[j, row] += error[row] * share

    loop: Callable[..., None] = round_rows
    return loop
