"""Rounding columns one after another to two sign planes: as in column_rounding.py beside it."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hubq.tensors.kernels.triton_loops.column_rounding import ROWS, WARPS


def round_to_signs(
    weight: Tensor,  # (block, out)
    moved: Tensor,  # (block, out)
    feedback: Tensor,  # (block, block), strictly upper part used
    levels: Tensor,  # (3, block, out): each weight's larger scale, smaller one and mean
) -> tuple[Tensor, Tensor]:  # codes (block, out) uint8; errors (block, out)
    """Round columns in turn to mean ± larger ± smaller; a code's bits are the two signs."""
    columns, out = weight.shape
    codes = torch.empty((columns, out), dtype=torch.uint8, device=weight.device)
    errors = torch.empty((columns, out), device=weight.device)
    round_rows[(triton.cdiv(out, ROWS),)](
        *(each.contiguous() for each in (weight, moved, feedback, *levels)),
        *(codes, errors, columns, out),
        rows=ROWS,
        num_warps=WARPS,
    )
    return codes, errors


def _round_rows(  # noqa: PLR0913 - a kernel takes pointers, not objects
    weight: tl.tensor,
    moved: tl.tensor,
    feedback: tl.tensor,
    larger: tl.tensor,
    smaller: tl.tensor,
    mean: tl.tensor,
    codes: tl.tensor,
    errors: tl.tensor,
    columns: int,
    out: int,
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
        middle = tl.load(mean + here, mask=inside, other=0.0)
        wide = tl.load(larger + here, mask=inside, other=0.0)
        narrow = tl.load(smaller + here, mask=inside, other=0.0)
        above = work > middle
        first = tl.where(above, middle + wide, middle - wide)
        further = work > first
        level = tl.where(further, first + narrow, first - narrow)
        code = above.to(tl.uint8) | (further.to(tl.uint8) << 1)
        tl.store(codes + here, code, mask=inside)
        error = tl.load(weight + here, mask=inside, other=0.0) - level
        tl.store(errors + here, error, mask=inside)
        tl.debug_barrier()  # the errors are there for whichever thread reads them


round_rows: Any = triton.jit(_round_rows)
