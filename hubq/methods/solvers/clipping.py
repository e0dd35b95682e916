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

from hubq.runtime.pieces import row_pieces
from hubq.tensors import ClippingRange, Grid

STEP = 0.05  # of the range, between two tries: AWQ's
SHIFTS = (-3 * STEP, -2 * STEP, -STEP, STEP, 2 * STEP, 3 * STEP)


def search_clipping_range(
    weight: Tensor, energy: Tensor, grid: Grid, clips: int, *, each_side: bool = False
) -> ClippingRange:
    """Return for each (out, groups) the parts of the range below and above zero that lose least.

    `energy` is the whole G, (in, in), or its diagonal, (in,). Both sides shrink together from 1
    down; with `each_side` they are then moved on their own, where the grid isn't symmetric.
    """
    if energy.dim() == 2:
        energy = _diagonal_blocks(energy, grid.width(weight.shape[1]))
    low = torch.empty(len(weight), grid.groups(weight.shape[1]), device=weight.device)
    high = torch.empty_like(low)
    for rows in row_pieces(weight.shape, weight.device):
        loss = _loss(weight[rows], energy, grid)
        low[rows], high[rows] = _search(
            loss, torch.ones_like(low[rows]), clips, each_side=each_side and not grid.symmetric
        )
    return low, high


def _search(
    loss: Callable[[Tensor, Tensor], Tensor], ones: Tensor, clips: int, *, each_side: bool
) -> ClippingRange:
    """Try smaller and smaller parts of a range, from its whole, which `ones` (out, groups) are."""
    best, least = ones, loss(ones, ones)
    for step in range(1, clips + 1):
        tried = ones * (1 - STEP * step)
        best, least = _better(best, least, tried, loss(tried, tried))
    low = high = best
    if each_side and clips:
        for shift in SHIFTS:
            tried = (best + shift).clamp(STEP, 1)
            low, least = _better(low, least, tried, loss(tried, high))
        for shift in SHIFTS:
            tried = (best + shift).clamp(STEP, 1)
            high, least = _better(high, least, tried, loss(low, tried))
    return low, high


def _better(best: Tensor, least: Tensor, tried: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    """Take what was tried wherever it loses less."""
    return torch.where(loss < least, tried, best), torch.minimum(loss, least)


def _loss(weight: Tensor, energy: Tensor, grid: Grid) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function from a range to the squared output error of each (out, groups).

    The energy is that of each input, (in,), or each group's block of G, (groups, width, width).
    """
    low, high = grid.range(weight)
    if energy.dim() == 1:
        return lambda down, up: grid.loss(weight, *grid.cover(low * down, high * up), energy)

    def correlated(down: Tensor, up: Tensor) -> Tensor:
        error = grid.error(weight, *grid.cover(low * down, high * up))
        by_group = error.transpose(0, 1)  # (groups, out, width)
        return ((by_group @ energy) * by_group).sum(2).T

    return correlated


def _diagonal_blocks(gram: Tensor, width: int) -> Tensor:
    """Cut (in, in) to the blocks of each group with itself: (groups, width, width)."""
    blocks = gram.new_zeros(-(-len(gram) // width), width, width)
    for block, begin in zip(blocks, range(0, len(gram), width), strict=True):
        own = gram[begin : begin + width, begin : begin + width]
        block[: len(own), : len(own)] = own
    return blocks
