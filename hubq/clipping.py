"""The search for the part of each group's range that is worth covering.

A smaller range has finer steps, and clips what lies outside. Which one loses least of the layer's
output is found by trying. For an error e of one group of one row, the loss on the calibration
tokens is e G eᵀ with the group's own block of G = XᵀX: what plain rounding loses. A solver that
goes on to make up for errors is told better by the diagonal alone, the sum of e² times each
input's energy (measured on SmolLM2 and two texts: bench/quality.py).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hubq.products import bfloat16_factors
from hubq.tensors import Grid

STEP = 0.05  # of the range, between two tries: AWQ's


def search_reach(weight: Tensor, energy: Tensor, grid: Grid, clips: int) -> Tensor:
    """Return for each (out, groups) the part of the range, from 1 down, that loses least.

    `energy` is the whole G, (in, in), or its diagonal, (in,).
    """
    columns = weight.shape[1]
    best = torch.ones(len(weight), grid.groups(columns), device=weight.device)
    loss_of: Callable[[Tensor, Tensor], Tensor] = _separate_loss
    parts = grid.grouped(energy[None]) if energy.dim() == 1 else energy
    if energy.dim() == 2:
        loss_of, parts = _correlated_loss, _diagonal_blocks(energy, grid.width(columns))
    least = loss_of(_error(weight, grid, 1.0), parts)
    for step in range(1, clips + 1):
        reach = 1 - STEP * step
        loss = loss_of(_error(weight, grid, reach), parts)
        best = torch.where(loss < least, reach, best)
        least = torch.minimum(loss, least)
    return best


def _error(weight: Tensor, grid: Grid, reach: float) -> Tensor:
    """Return what rounding on a part of the range does to each weight, (out, groups, width)."""
    return grid.grouped(grid.project(weight, *grid.span(weight, reach)).sub_(weight))


def _correlated_loss(error: Tensor, blocks: Tensor) -> Tensor:  # (groups, width, width)
    by_group = error.transpose(0, 1)  # (groups, out, width)
    with bfloat16_factors():
        return ((by_group @ blocks) * by_group).sum(2).T


def _separate_loss(error: Tensor, energy: Tensor) -> Tensor:  # (1, groups, width)
    return error.square_().mul_(energy).sum(2)


def _diagonal_blocks(gram: Tensor, width: int) -> Tensor:
    """Cut (in, in) to the blocks of each group with itself: (groups, width, width)."""
    missing = -len(gram) % width
    padded = torch.nn.functional.pad(gram, (0, missing, 0, missing))
    groups = len(padded) // width
    blocks = padded.reshape(groups, width, groups, width)
    return torch.stack([blocks[each, :, each] for each in range(groups)])
