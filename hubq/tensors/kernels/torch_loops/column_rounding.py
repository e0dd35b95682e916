"""Rounding columns one after another, in as few operations each as it takes: each is a launch."""

from collections.abc import Iterator

import torch
from torch import Tensor

Rounded = Iterator[tuple[Tensor, Tensor]]


def round_columns(
    weight: Tensor,  # (block, out)
    moved: Tensor,  # (block, out)
    feedback: Tensor,  # (block, block), strictly upper part used
    levels: tuple[Tensor, Tensor, Tensor],  # (block, out) each: scale, zero and largest code
    table: Tensor | None,  # (entries,)
) -> tuple[Tensor, Tensor]:  # codes (block, out) uint8; errors (block, out)
    """Round columns in turn, each moved by the errors of those before it."""
    work, scale = moved.clone(), levels[0]
    rounded = _on_steps(work, levels) if table is None else _in_table(work, scale, table)
    codes, errors = [], []
    for (code, level), given, step, share in zip(
        rounded, weight, scale, feedback.triu(1), strict=True
    ):
        codes.append(code)
        errors.append(torch.addcmul(given, level, step, value=-1))
        work.addr_(share, errors[-1])
    return torch.stack(codes).nan_to_num_(0).byte(), torch.stack(errors)


def _on_steps(work: Tensor, levels: tuple[Tensor, Tensor, Tensor]) -> Rounded:
    """Yield each column's codes and levels, in steps, as the errors so far have moved it."""
    scale, zero, top = levels
    # Only what the zero lies above a code is added before rounding.
    whole, least = zero.floor(), torch.zeros_like(zero)
    for moved, step, middle, above, below, low, high in zip(
        work, scale, zero, zero - whole, whole, least, top, strict=True
    ):
        code = (moved / step).add_(above).round_().add_(below).clamp_(low, high)
        yield code, code - middle


def _in_table(work: Tensor, scale: Tensor, table: Tensor) -> Rounded:
    """Yield each column's codes and levels, in steps, as the errors so far have moved it."""
    limits = ((table[1:] + table[:-1]) / 2)[:, None]
    for moved, step in zip(work, scale, strict=True):
        code = (moved > limits * step).sum(0)
        yield code, table[code]
