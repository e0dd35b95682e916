"""The search for the shift by which a group's codes have the most entropy, on whole tensors."""

import torch
from torch import Tensor

GROUPS = 1 << 16  # at a time, of which a few copies are in memory


def most_even_shift(weight: Tensor, middles: Tensor, factors: Tensor, terms: Tensor) -> Tensor:
    """Return the shift of each group, (out, groups)."""
    groups = weight.reshape(-1, weight.shape[2])
    middles, terms = middles.to(weight.device), terms.to(weight.device)
    nearest_first = [None, *sorted(factors.tolist(), key=lambda factor: (abs(factor), factor))]
    pieces = torch.split(groups, GROUPS)
    found = [_most_even(each, middles, nearest_first, terms) for each in pieces]
    return torch.cat(found or [groups.new_empty(0)]).view(weight.shape[:2])


def _most_even(
    groups: Tensor, middles: Tensor, factors: list[float | None], terms: Tensor
) -> Tensor:
    given = groups.sort(1).values
    width = given.shape[1]
    low, high, median = given[:, :1], given[:, -1:], given[:, (width - 1) // 2, None]
    reach = torch.maximum(high - median, median - low)
    shift = torch.zeros_like(median)
    least = torch.full_like(median, torch.iinfo(torch.int64).max, dtype=torch.int64)
    ends = median.new_tensor([[0, width]], dtype=torch.int64).expand(len(given), 2)
    for factor in factors:
        middle = torch.zeros_like(median) if factor is None else median + factor * reach
        bounds = middle + middles * torch.maximum(high - middle, middle - low)
        places = torch.searchsorted(given, bounds, right=True)
        counts = places.diff(prepend=ends[:, :1], append=ends[:, 1:])
        total = terms[counts].sum(1, keepdim=True)
        fewer = total < least
        shift = torch.where(fewer, middle, shift)
        least = torch.where(fewer, total, least)
    return shift[:, 0]
