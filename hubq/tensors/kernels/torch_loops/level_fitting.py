"""What rounding to levels loses, and the best two of them, in operations on whole tensors."""

import torch
from torch import Tensor

from hubq.tensors.kernels.numba_loops.level_fitting import LLOYD

ROWS = 4096  # at a time, of which a few copies are in memory


def rounding_error(weight: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
    """Return the rounded minus the given weights, all (out, groups, width)."""
    codes = (weight / scale[..., None]).round_().add_(zero[..., None]).clamp_(0, levels)
    return codes.sub_(zero[..., None]).mul_(scale[..., None]).sub_(weight)


def rounding_loss(
    weight: Tensor, scale: Tensor, zero: Tensor, levels: int, energy: Tensor
) -> Tensor:
    """Return the squared errors times each input's energy, summed: (out, groups)."""
    return rounding_error(weight, scale, zero, levels).square_().mul_(energy).sum(2)


def two_means(weight: Tensor, energy: Tensor, without: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the half distance of two levels, (out, groups) each."""
    pieces = zip(torch.split(weight, ROWS), torch.split(without, ROWS), strict=True)
    means, distances = zip(*(_two_means(rows, energy, less) for rows, less in pieces), strict=True)
    return torch.cat(means), torch.cat(distances)


def _two_means(weight: Tensor, energy: Tensor, without: Tensor) -> tuple[Tensor, Tensor]:
    share = energy.expand_as(weight).masked_fill(without, 0)
    pull = share * weight
    mass, moment = share.sum(2), pull.sum(2)
    between = torch.where(mass > 0, moment / mass, 0)
    distance = torch.zeros_like(between)
    ended = torch.zeros_like(between, dtype=torch.bool)
    for _ in range(LLOYD):
        above = weight > between[..., None]
        upper, upper_moment = (share * above).sum(2), (pull * above).sum(2)
        lower = mass - upper
        ended |= (upper <= 0) | (lower <= 1e-6 * mass)
        high, low = upper_moment / upper, (moment - upper_moment) / lower
        between = torch.where(ended, between, (high + low) / 2)
        distance = torch.where(ended, distance, (high - low) / 2)
    return between, distance
