"""Matrix products of what calibration tokens show, as precise as their dtype, and in little room.

Where the model runs in bfloat16, its inputs lose nothing as bfloat16 factors, with sums in float32;
on a CPU that is fast in it such products run at several times the rate of float32. On others, which
run the model in float32, they would be slower, and less exact.

A Gram matrix may be as large as all that memory holds beside it (of the 28672 inputs that a linear
of LLaMA3-70B has, 3.3 GB), so what changes one as a whole goes panel by panel, in place.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from hubq.runtime.formulas import turns

PANEL = 512  # columns of a Gram matrix that one product fills at most, or that are moved at once
PIECE = 1 << 22  # numbers that are reversed at once
# What torch may round float32 factors to: bfloat16, and on a GPU TF32, which holds a float16.
PRECISIONS = {torch.bfloat16: "medium", torch.float16: "high"}


def rotate_gram(
    gram: Tensor, out: int, seed: int, stretch: Tensor | None = None
) -> Tensor:  # (in, in), (in,)
    """Return V G Vᵀ in float32, for a weight with so many outputs.

    With a stretch s it is that of the inputs x / s.
    """
    _, inputs = turns(out, len(gram), seed, gram.device)
    turned = torch.empty(gram.shape, device=gram.device)
    for here in _panels(gram):
        rows = gram[here].float()
        if stretch is not None:
            rows = rows / stretch[here].outer(stretch)
        turned[here] = inputs.forth(rows)
    _transpose(turned)
    for here in _panels(gram):
        turned[here] = inputs.forth(turned[here])
    return turned


def mirror(gram: Tensor) -> None:  # (in, in)
    """Write the lower triangle into the upper one."""
    for here in _panels(gram):
        after = slice(here.stop, None)
        gram[here, here] = gram[here, here].tril() + gram[here, here].tril(-1).T
        gram[here, after] = gram[after, here].T


def reorder(gram: Tensor, order: Tensor) -> None:  # (in, in), (in,)
    """Put row and column order[i] in place i."""
    for here in _panels(gram):
        gram[here] = gram[here].index_select(1, order)
    for here in _panels(gram):
        gram[:, here] = gram[:, here].index_select(0, order)


def reverse(square: Tensor) -> None:  # (in, in), contiguous
    """Put row and column i in the place of the one that is so far from the end."""
    flat = square.view(-1)
    for begin in range(0, len(flat) // 2, PIECE):
        end = min(begin + PIECE, len(flat) // 2)
        first, last = flat[begin:end], flat[len(flat) - end : len(flat) - begin]
        kept = first.flip(0)
        first.copy_(last.flip(0))
        last.copy_(kept)


def _transpose(square: Tensor) -> None:
    for here in _panels(square):
        after = slice(here.stop, None)
        square[here, here] = square[here, here].T.clone()
        kept = square[here, after].T.clone()
        square[here, after] = square[after, here].T
        square[after, here] = kept


def _panels(square: Tensor) -> Iterator[slice]:
    """Yield the places of PANEL rows, or columns, after PANEL rows."""
    for begin in range(0, len(square), PANEL):
        yield slice(begin, begin + PANEL)


def add_lower_gram(gram: Tensor, inputs: Tensor) -> None:
    """Add xᵀx of (tokens, in) to the lower triangle of (in, in), panel by panel.

    Both are float32: sums in bfloat16 would leave a matrix that is not positive definite.
    """
    width = -(-len(gram) // max(2, -(-len(gram) // PANEL)))  # equal panels, two at the least
    for begin in range(0, len(gram), width):
        end = min(begin + width, len(gram))
        gram[begin:, begin:end].addmm_(inputs[:, begin:].T, inputs[:, begin:end])


def output_energy(weight: Tensor, gram: Tensor) -> Tensor:
    """Return the sum over the calibration tokens of ||W x||², for W (out, in) and G (in, in)."""
    return ((weight @ gram) * weight).sum()


@contextmanager
def factors_in(dtype: torch.dtype) -> Iterator[None]:
    """Let float32 products round their factors to a dtype, inside the context."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(PRECISIONS.get(dtype, "highest"))
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
