"""The column solver that GPTQ and its descendants share.

Rounding the columns of W one after another, each error is spread over the columns still to come
so that the layer's output on the calibration tokens moves least. With G = XᵀX = R Rᵀ and R upper
triangular, column j takes -e F[i, j] for an error e in column i, where F is R⁻¹ with each row
divided by its diagonal (Frantar et al. 2023, section 3, whose U is R⁻¹). One Cholesky
factorization of G read backwards gives R, with no explicit inverse of G.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hubq.errors import UserError

RoundBlock = Callable[[slice, Tensor, Tensor], Tensor]
RETRIES = 3  # each with ten times the damping


@dataclass(frozen=True)
class Factor:
    """How the error of each column spreads over those after it."""

    spread: Tensor  # (in, in) float32, upper triangular with ones on the diagonal
    damping: float  # the fraction of the mean diagonal that made G positive definite


def factorize(gram: Tensor, damping: float, layer: str) -> Factor:
    """Damp and factorize G (in, in); raise UserError naming the layer when no damping helps."""
    mean = gram.diagonal().mean()
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for attempt in range(RETRIES + 1):
        raised = damping * 10**attempt
        backwards, failed = torch.linalg.cholesky_ex((gram + eye * (raised * mean)).flip(0, 1))
        if not failed:
            inverse = torch.linalg.solve_triangular(backwards.flip(0, 1), eye, upper=True)
            return Factor(inverse / inverse.diagonal()[:, None], raised)
    raise UserError(
        f"{layer}: the Hessian stays singular with damping up to {raised:g}. "
        "Calibrate on more or other text, or set method.damping higher."
    )


def solve(weight: Tensor, factor: Factor, round_block: RoundBlock, block: int) -> None:
    """Round `weight` (out, in), which is overwritten, block after block of columns.

    `round_block(columns, weight[:, columns], spread[columns, columns])` rounds one block in place
    and returns its errors (out, block), weight minus quantized.
    """
    columns = weight.shape[1]
    for begin in range(0, columns, block):
        here = slice(begin, min(begin + block, columns))
        rest = slice(here.stop, columns)
        errors = round_block(here, weight[:, here], factor.spread[here, here])
        if rest.start < columns:
            weight[:, rest].addmm_(errors, factor.spread[here, rest], alpha=-1)
