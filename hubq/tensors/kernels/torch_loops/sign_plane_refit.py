"""Fitting the levels of two sign planes again: least squares, all rows at once."""

import torch
from torch import Tensor

from hubq.tensors.kernels.numba_loops.sign_plane_refit import RIDGE


def refit_levels(  # noqa: PLR0913 - the parts of the normal equations
    codes: Tensor,  # (width, out) uint8
    apart: Tensor,  # (width,) bool
    levels: Tensor,  # (3, 2, out)
    gradient: Tensor,  # (width, out)
    own: Tensor,  # (width, width)
    *,
    means: bool,
) -> tuple[Tensor, Tensor]:  # (3, 2, out), (width, out)
    """Return the levels that lose least of the layer's output with the signs as they are."""
    planes = torch.stack([codes & 1, codes >> 1]).float().mul_(2).sub_(1)
    signs = torch.cat([planes, torch.ones_like(planes[:1])])
    sides = torch.stack([~apart, apart])
    parts = (sides[:, None, :, None] * signs).flatten(0, 1)  # (6, width, out)
    normal = torch.stack([(parts * (own @ part)).sum(1) for part in parts])
    right = (parts * gradient).sum(1)
    if not means:
        for i in (2, 5):
            normal[i] = normal[:, i] = right[i] = 0
    change = _solution(normal, right).view(2, 3, -1).transpose(0, 1)
    return _renamed(levels + change, apart, codes)


def _solution(normal: Tensor, right: Tensor) -> Tensor:  # (6, 6, out), (6, out) -> (6, out)
    """Solve definite equations; an unknown without any is zero."""
    left = normal.permute(2, 0, 1).double()
    diagonal = left.diagonal(dim1=1, dim2=2)
    diagonal.copy_(torch.where(diagonal > 0, diagonal * (1 + RIDGE), 1))
    # `solve_ex` looks at no result, so nothing waits for the device.
    found: Tensor = torch.linalg.solve_ex(left, right.T.double()[..., None]).result
    return found[..., 0].T.float()


def _renamed(levels: Tensor, apart: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Turn and swap planes so that larger >= smaller >= 0: the same weights."""
    first, second = levels[0].abs(), levels[1].abs()
    side = apart.long()
    codes = codes ^ ((levels[0] < 0) + 2 * (levels[1] < 0)).byte()[side]
    turned = (codes & 1) << 1 | codes >> 1
    ordered = torch.stack([torch.maximum(first, second), torch.minimum(first, second), levels[2]])
    return ordered, torch.where((first < second)[side], turned, codes)
