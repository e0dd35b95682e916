"""Rounding columns one after another: each program has some rows, and goes through the columns.

A row's weights are moved by the errors that its own program has written, in the order in which the
loop for CPUs adds them.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 64  # of a layer, that one program rounds
WARPS = 2  # a row a thread


def round_columns(
    weight: Tensor,  # (block, out)
    moved: Tensor,  # (block, out)
    feedback: Tensor,  # (block, block), strictly upper part used
    levels: tuple[Tensor, Tensor, Tensor],  # (block, out) each: scale, zero and largest code
    table: Tensor | None,  # (entries,)
) -> tuple[Tensor, Tensor]:  # codes (block, out) uint8; errors (block, out)
    """Round columns in turn, each moved by the errors of those before it."""
    columns, out = weight.shape
    codes = torch.empty((columns, out), dtype=torch.uint8, device=weight.device)
    errors = torch.empty((columns, out), device=weight.device)
    table = weight.new_empty(0) if table is None else table
    given = (weight, moved, feedback, *levels, table, (table[1:] + table[:-1]) / 2)
    round_rows[(triton.cdiv(out, ROWS),)](
        *(each.contiguous() for each in given),
        *(codes, errors, columns, out),
        entries=len(table),
        rows=ROWS,
        num_warps=WARPS,
    )
    return codes, errors


def _round_rows(  # noqa: PLR0913 - a kernel takes pointers, not objects
    weight: tl.tensor,
    moved: tl.tensor,
    feedback: tl.tensor,
    scale: tl.tensor,
    zero: tl.tensor,
    top: tl.tensor,
    table: tl.tensor,
    limits: tl.tensor,
    codes: tl.tensor,
    errors: tl.tensor,
    columns: int,
    out: int,
    entries: tl.constexpr,
    rows: tl.constexpr,
) -> None:
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    inside = row < out
    for i in range(columns):
        here = i * out + row
        work = tl.load(moved + here, mask=inside, other=0.0)
        for k in range(i):
            share = tl.load(feedback + k * columns + i)
            work += tl.load(errors + k * out + row, mask=inside, other=0.0) * share
        step = tl.load(scale + here, mask=inside, other=1.0)
        if entries > 0:
            code = tl.full((rows,), 0, tl.int32)
            for limit in range(entries - 1):
                code += (work > tl.load(limits + limit) * step).to(tl.int32)
            level = tl.load(table + code)
            tl.store(codes + here, code.to(tl.uint8), mask=inside)
        else:
            middle = tl.load(zero + here, mask=inside, other=0.0)
            # Only what the zero lies above a code is added before rounding: to even, as adding
            # and subtracting 2^23 does where there is a fraction.
            whole = tl.floor(middle)
            exact = tl.div_rn(work, step) + (middle - whole)
            size = tl.abs(exact)
            near = (size + 8388608.0) - 8388608.0
            near = tl.where(size < 8388608.0, tl.where(exact < 0, -near, near), exact)
            code = near + whole
            last = tl.load(top + here, mask=inside, other=0.0)
            code = tl.where(code < 0, 0.0, tl.where(code > last, last, code))  # NaN stays
            level = code - middle
            number = tl.where(code == code, code, 0.0)  # NaN is no code
            tl.store(codes + here, number.to(tl.uint8), mask=inside)
        error = tl.load(weight + here, mask=inside, other=0.0) - level * step
        tl.store(errors + here, error, mask=inside)
        tl.debug_barrier()  # the errors are there for whichever thread reads them


round_rows: Any = triton.jit(_round_rows)
