"""Random orthogonal matrices that a 64-bit seed stands for, after QuIP (Chee et al. 2023, 4.1).

A turn of n coordinates is a random permutation followed by the Kronecker product of two random
orthogonal factors, p x p and q x q with p q = n as square as n allows: it costs n (p + q) products
instead of n². All is computed from integers by SplitMix64 and in float64, so that every machine
finds the same matrices up to rounding far below what weights are stored in.
"""

import math
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
