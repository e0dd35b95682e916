"""The column solver that GPTQ and its descendants share.

Columns are rounded one after another, and each is moved first so that it makes up for the errors
of those before it. With the Gram matrix G = XᵀX = (U + I) D (U + I)ᵀ, U strictly upper triangular,
column k is rounded after adding E U[:, k], where E = W - Q holds the errors so far. This is the
same rounding as GPTQ's (Frantar et al. 2023, section 3), as Chee et al. 2023 (QuIP, section 3)
prove, and it needs one Cholesky factorization of G read backwards and no inverse.

Everything here is transposed, (in, out): a column of the layer lies in one piece, and the loop
over columns runs as vector instructions over rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hubq.errors import UserError

RETRIES = 3  # each with ten times the damping
BLOCK = 128  # columns between two matrix products

RoundBlock = Callable[[slice, Tensor, Tensor], Tensor]


def factorize(
    gram: Tensor, order: Tensor, damping: float, layer: str
) -> tuple[Tensor, float]:  # (in, in), (in,)
    """Return U + I of G with its columns in an order, and the damping that it took.

    The damping is a fraction of the mean diagonal, raised tenfold where G is not positive
    definite; raise UserError naming the layer when no damping helps.
    """
    backwards = order.flip(0)
    reversed_gram = gram[backwards[:, None], backwards]
    mean = gram.diagonal().mean()
    for attempt in range(RETRIES + 1):
        raised = damping * 10**attempt
        damped = reversed_gram.clone()
        damped.diagonal().add_(raised * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            return (lower / lower.diagonal()).flip(0, 1), raised
    raise UserError(
        f"{layer}: the Hessian stays singular with damping up to {raised:g}. "
        "Calibrate on more or other text, or set method.damping higher."
    )


def solve(
    weight: Tensor, factor: Tensor, round_block: RoundBlock, block: int = BLOCK
) -> None:  # (in, out), (in, in)
    """Round a weight block after block of columns.

    `round_block(columns, moved, feedback)` rounds some columns, where `moved` (block, out) is the
    weight with what the errors of earlier blocks add to it, and returns the errors (block, out):
    the weight itself minus its rounding. `feedback` (block, block) is the factor's own part.
    """
    errors = torch.zeros_like(weight)
    for begin in range(0, len(weight), block):
        here = slice(begin, min(begin + block, len(weight)))
        moved = torch.addmm(weight[here], factor[:begin, here].T, errors[:begin])
        errors[here] = round_block(here, moved, factor[here, here])
