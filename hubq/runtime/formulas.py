"""What each kind of quantized weight stands for, in float32; and what a seed of rotations does.

A turn of n coordinates is a random permutation followed by the Kronecker product of two random
orthogonal factors, p x p and q x q with p q = n as square as n allows: it costs n (p + q) products
instead of n². All is computed from integers by SplitMix64 and in float64, so that every machine
finds the same matrices up to rounding far below what weights are stored in.

This is the one place where that is computed. The rotations are QuIP's (Chee et al. 2023, 4.1).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

STEP, FIRST, SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


@dataclass(frozen=True)
class Turn:
    """An orthogonal matrix (n, n): row i of the permuted identity, then left ⊗ right."""

    order: Tensor  # (n,): the coordinate that comes to each place
    left: Tensor  # (p, p) float64
    right: Tensor  # (q, q) float64

    def forth(self, rows: Tensor) -> Tensor:  # (m, n)
        """Return each row's product with the matrix, in the rows' dtype."""
        return _mixed(rows.index_select(1, self.order), self.left, self.right)

    def back(self, rows: Tensor) -> Tensor:  # (m, n)
        """Return each row's product with the transposed matrix: undo `forth`."""
        mixed = _mixed(rows, self.left.T, self.right.T)
        return mixed.index_select(1, self.order.argsort())


def _mixed(rows: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return each row's product with left ⊗ right: one large product and many small ones."""
    mixed = rows.reshape(-1, len(right)) @ right.T.to(rows.dtype)
    grid = left.to(rows.dtype) @ mixed.view(len(rows), len(left), len(right))
    return grid.view(rows.shape)


def unrotate(weight: Tensor, seed: int) -> Tensor:  # (out, in)
    """Return Uᵀ W V in float32."""
    output, inputs = turns(weight.shape[0], weight.shape[1], seed, weight.device)
    turned = inputs.back(weight.double()).T.contiguous()
    return output.back(turned).T.float().contiguous()


@lru_cache(maxsize=4)
def turns(out: int, columns: int, seed: int, device: torch.device) -> tuple[Turn, Turn]:
    """Return U for the outputs and V for the inputs."""
    return _turn(out, seed, 0, device), _turn(columns, seed, 1, device)


def _turn(size: int, seed: int, which: int, device: torch.device) -> Turn:
    small = next(each for each in range(math.isqrt(size), 0, -1) if size % each == 0)
    large = size // small
    drawn = uniform(2 * seed + which, size + 2 * (small**2 + large**2))
    order = drawn[:size].argsort(stable=True)
    left = _orthogonal(drawn[size : size + 2 * small**2], small)
    right = _orthogonal(drawn[size + 2 * small**2 :], large)
    return Turn(order.to(device), left.to(device), right.to(device))


def _orthogonal(drawn: Tensor, size: int) -> Tensor:
    """Make an orthogonal matrix, uniform among all, of 2 size² uniform numbers."""
    radius, angle = drawn.reshape(2, size, size)
    normal = (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()  # Box and Muller
    factor, triangle = torch.linalg.qr(normal)
    made: Tensor = factor * triangle.diagonal().sign()
    return made


def uniform(seed: int, count: int) -> Tensor:
    """Return float64 numbers above 0 and at most 1, of SplitMix64's first `count` values."""
    place = torch.arange(1, count + 1)
    value = place * STEP + seed * 0x5851F42D4C957F2D % (1 << 63)
    value = (value ^ _shifted(value, 30)) * FIRST
    value = (value ^ _shifted(value, 27)) * SECOND
    value = value ^ _shifted(value, 31)
    return (_shifted(value, 11) + 1).double() * 2.0**-53


def _shifted(value: Tensor, bits: int) -> Tensor:
    """Shift 64 bits to the right as an unsigned number."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def by_group(weight: Tensor, group_size: int) -> Iterator[tuple[Tensor, slice]]:  # (out, in)
    """View a matrix by its groups of columns, (out, groups, width): the whole ones, and a ragged.

    With each comes the slice of its groups.
    """
    whole, ragged = divmod(weight.shape[1], group_size)
    if whole:
        end = whole * group_size
        yield weight[:, :end].view(-1, whole, group_size), slice(0, whole)
    if ragged:
        yield weight[:, None, -ragged:], slice(whole, whole + 1)


def affine_weight(
    codes: Tensor, scale: Tensor, zero: Tensor | None, bits: int, group_size: int
) -> Tensor:  # (out, in) uint8, (out, groups) float32 and uint8
    """Return (code - zero) * scale; without zeros all are 2^(bits-1)."""
    weight = codes.float()
    if zero is None:
        weight -= 1 << (bits - 1)
    for part, groups in by_group(weight, group_size):
        if zero is not None:
            part -= zero[:, groups, None].float()
        part *= scale[:, groups, None]
    return weight


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
    codes: Tensor, table: Tensor, scale: Tensor, group_size: int, shift: Tensor | None = None
) -> Tensor:  # (out, in) uint8, (entries,), (out, groups) or (1, 1) float32, (out, groups) float32
    """Return table[code] * scale + shift."""
    # By 32-bit places that are one row: on a CPU a third of the time of table[codes].
    weight = table.index_select(0, codes.flatten().int()).view(codes.shape)
    if scale.numel() == 1:
        weight.mul_(scale)
    else:
        for part, groups in by_group(weight, group_size):
            part *= scale[:, groups, None]
    if shift is not None:
        for part, groups in by_group(weight, group_size):
            part += shift[:, groups, None]
    return weight


def spread(
    values: Tensor, group_size: int, rows: slice, shape: tuple[int, int]
) -> Tensor:  # (1, groups) -> (rows, in)
    """Return the value of each weight in some rows, where groups run on over the ends of rows."""
    begin, end, _ = rows.indices(shape[0])
    place = torch.arange(begin * shape[1], end * shape[1], device=values.device)
    return values[0][place // group_size].view(-1, shape[1])


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
