"""Two sign planes: finding four levels, and rounding columns to them."""

import torch
from torch import Tensor


def fit_levels(
    weight: Tensor,  # (out, width)
    energy: Tensor,  # (width,)
    apart: Tensor,  # (width,) bool
    *,
    means: bool,
) -> tuple[Tensor, Tensor]:  # (3, 2, out), (2, out)
    """Return the levels that lose least for the columns not apart and those apart, and the loss.

    Each break-point of either side is tried: the level on either side of it is the mean there.
    """
    chosen = torch.stack([~apart, apart], 1)[..., None]  # (width, 2, 1)
    given = weight.T[:, None].masked_fill(~chosen, 0)  # (width, 2, out)
    share = (energy[:, None, None] * chosen).expand_as(given)
    mass = share.sum(0, dtype=torch.float64)
    mean = torch.zeros_like(given[0])
    if means:
        mean = ((share * given).sum(0, dtype=torch.float64) / mass).float()
    far = (given - mean).abs()
    pull = share * far
    square = (pull * far).sum(0, dtype=torch.float64)
    # Columns of the other side are last. The sums run from the first on, on every device.
    order = far.masked_fill(~chosen, torch.inf).argsort(dim=0, stable=True)
    below, below_moment = (each.gather(0, order).double().cumsum(0) for each in (share, pull))
    above, above_moment = mass - below, below_moment[-1] - below_moment
    low, high = below_moment / below, above_moment / above
    low[-1] = high[-1] = below_moment[-1] / mass  # no break
    place = torch.arange(1, len(order) + 1, device=order.device)[:, None, None]
    is_break = (place < chosen.sum(0)) | (place == len(order))
    kept = (below_moment * low + above_moment * high).masked_fill(~is_break, -torch.inf)
    best, chosen_break = kept.max(0, keepdim=True)
    low, high = low.gather(0, chosen_break)[0], high.gather(0, chosen_break)[0]
    levels = torch.stack([(high + low) / 2, (high - low) / 2, mean.double()]).float()
    some = chosen.any(0)
    return torch.where(some, levels, 0), torch.where(some, square - best[0], 0).float()


def round_to_signs(
    weight: Tensor,  # (block, out)
    moved: Tensor,  # (block, out)
    feedback: Tensor,  # (block, block), strictly upper part used
    levels: Tensor,  # (3, block, out): each weight's larger scale, smaller one and mean
) -> tuple[Tensor, Tensor]:  # codes (block, out) uint8; errors (block, out)
    """Round columns in turn to mean ± larger ± smaller; a code's bits are the two signs."""
    work = moved.clone()
    larger, smaller, mean = levels
    first_signs, second_signs, errors = [], [], []
    for column, given, middle, up, down, wide, back, share in zip(
        *(work, weight, mean, mean + larger, mean - larger, smaller, -smaller, feedback.triu(1)),
        strict=True,
    ):
        first_signs.append(column > middle)
        first = torch.where(first_signs[-1], up, down)
        second_signs.append(column > first)
        errors.append(given - torch.where(second_signs[-1], wide, back).add_(first))
        work.addr_(share, errors[-1])
    codes = torch.stack(first_signs).byte() | torch.stack(second_signs).byte() << 1
    return codes, torch.stack(errors)


def sign_errors(weight: Tensor, codes: Tensor, levels: Tensor) -> Tensor:
    """Return the weight (block, out) minus what its codes stand for; as in `round_to_signs`."""
    larger, smaller, mean = levels
    first = torch.where((codes & 1).bool(), larger, -larger)
    second = torch.where((codes & 2).bool(), smaller, -smaller)
    errors: Tensor = weight - (mean + first + second)
    return errors
