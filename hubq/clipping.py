"""The search for the part of each group's range that is worth covering.

A smaller range has finer steps, and clips what lies outside. Which one loses least of the layer's
output is found by trying: for an error e of one group of one row, the loss on the calibration
tokens is e G eᵀ with the group's own block of G = XᵀX, as if the other groups were exact.
"""

import torch
from torch import Tensor

from hubq.products import bfloat16_factors
from hubq.tensors import Grid

STEP = 0.05  # of the range, between two tries: AWQ's


def search_reach(weight: Tensor, gram: Tensor, grid: Grid, clips: int) -> Tensor:
    """Return for each (out, groups) the part of the range, from 1 down, that loses least."""
    blocks = _diagonal_blocks(gram, grid.width(weight.shape[1]))
    best = torch.ones(len(weight), len(blocks), device=weight.device)
    least = _loss(weight, blocks, grid, 1.0)
    for step in range(1, clips + 1):
        reach = 1 - STEP * step
        loss = _loss(weight, blocks, grid, reach)
        best = torch.where(loss < least, reach, best)
        least = torch.minimum(loss, least)
    return best


def _loss(weight: Tensor, blocks: Tensor, grid: Grid, reach: float) -> Tensor:
    """Return (out, groups): the squared output error of each group on its own."""
    error = grid.project(weight, *grid.span(weight, reach)).sub_(weight)
    grouped = grid.grouped(error).transpose(0, 1)  # (groups, out, width)
    with bfloat16_factors():
        return ((grouped @ blocks) * grouped).sum(2).T


def _diagonal_blocks(gram: Tensor, width: int) -> Tensor:
    """Cut (in, in) to the blocks of each group with itself: (groups, width, width)."""
    missing = -len(gram) % width
    padded = torch.nn.functional.pad(gram, (0, missing, 0, missing))
    groups = len(padded) // width
    blocks = padded.reshape(groups, width, groups, width)
    return torch.stack([blocks[each, :, each] for each in range(groups)])
