"""Matrix products of what calibration tokens show, as precise as their dtype.

Where the model runs in bfloat16, its inputs lose nothing as bfloat16 factors, with sums in float32;
on a CPU that is fast in it such products run at several times the rate of float32. On others, which
run the model in float32, they would be slower, and less exact.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from hubq.runtime.formulas import turns

PANEL = 512  # columns of a Gram matrix that one product fills at most
# What torch may round float32 factors to: bfloat16, and on a GPU TF32, which holds a float16.
PRECISIONS = {torch.bfloat16: "medium", torch.float16: "high"}


def rotate_gram(gram: Tensor, out: int, seed: int) -> Tensor:  # (in, in)
    """Return V G Vᵀ in float32, for a weight with so many outputs."""
    _, inputs = turns(out, len(gram), seed, gram.device)
    turned = inputs.forth(gram.float()).T.contiguous()
    return inputs.forth(turned)


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
