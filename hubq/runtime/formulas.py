"""What each kind of quantized weight stands for, in float32: the one place where it is computed."""

import torch
from torch import Tensor

from hubq.runtime.rotation import unrotate


def spread(values: Tensor, group_size: int, columns: int) -> Tensor:  # (out, groups)
    """Give each column the value of its group, (out, columns); the last group may be ragged."""
    wide = values[:, :, None].expand(-1, -1, min(group_size, max(columns, 1)))
    return wide.reshape(len(values), -1)[:, :columns]


def affine_weight(
    codes: Tensor, scale: Tensor, zero: Tensor | None, bits: int, group_size: int
) -> Tensor:  # (out, in) uint8, (out, groups) float32 and uint8
    """Return (code - zero) * scale; without zeros all are 2^(bits-1)."""
    columns = codes.shape[1]
    weight = codes.float()
    weight -= 1 << (bits - 1) if zero is None else spread(zero.float(), group_size, columns)
    return weight.mul_(spread(scale, group_size, columns))


def column_groups(columns: int, group_size: int, apart: Tensor | None, like: Tensor) -> Tensor:
    """Return the group of each column, (columns,); those set apart have groups of their own."""
    place = torch.arange(columns, device=like.device) // group_size
    return place if apart is None else 2 * place + apart


def binary_weight(
    signs: Tensor, scales: list[Tensor], mean: Tensor | None, group: Tensor, *, unipolar: bool
) -> Tensor:  # (planes, out, in) bool, (out, groups) float32 each, (in,)
    """Return the mean plus each plane's scale times -1 or 1 (unipolar: 0 or 1), in their order."""
    total = torch.zeros(signs.shape[1:], device=signs.device)
    if mean is not None:
        total += mean[:, group]
    for plane, scale in zip(signs, scales, strict=True):
        sign = plane.float() if unipolar else plane.float().mul_(2).sub_(1)
        total += sign.mul_(scale[:, group])
    return total


def codebook_weight(
    codes: Tensor, table: Tensor, scale: Tensor, group_size: int
) -> Tensor:  # (out, in) uint8, (entries,), (out, groups) or (1, 1) float32
    """Return table[code] * scale."""
    wide = scale if scale.numel() == 1 else spread(scale, group_size, codes.shape[1])
    return table[codes.long()].mul_(wide)


def mixed_weight(parts: list[Tensor], part: Tensor, group_size: int) -> Tensor:  # (groups,) uint8
    """Put each part's columns (out, its columns) in their places."""
    columns = sum(each.shape[1] for each in parts)
    owner = part[torch.arange(columns, device=part.device) // group_size]
    whole = torch.empty(len(parts[0]), columns, device=part.device)
    for number, each in enumerate(parts):
        whole[:, owner == number] = each
    return whole


def reordered_weight(inner: Tensor, order: Tensor) -> Tensor:  # (out, in), (in,) int64
    """Put column i of a matrix in the place order[i]."""
    whole = torch.empty_like(inner)
    whole[:, order] = inner
    return whole


def rotated_weight(inner: Tensor, diagonal: Tensor, seed: int) -> Tensor:  # (out, in), (in,)
    """Turn a matrix back and divide its columns by the diagonal."""
    return unrotate(inner, seed) / diagonal.float()
