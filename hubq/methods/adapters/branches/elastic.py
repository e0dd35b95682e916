"""IR-QLoRA's branch: LoRA's, with means of the inputs and copies of what A gives beside A and B.

Qin et al. 2024, section 3.3, equations 14 to 17, in the order of their code: with b and c a learnt
number each,
z = A drop(x) + b P x and y = scaling (B z + c R z).
P (rank, in) takes the means of gcd(in, rank) blocks of neighbouring inputs, each for as many
neighbouring rows; R (out, rank) the same of z for the outputs, which are plain copies where rank
divides them. So all sizes work, and those that rank divides are the code's own.
"""

from math import gcd

import torch
from torch import Tensor, nn

from hubq.methods.adapters.branches.lora import Branch


class ElasticBranch(Branch):
    """A branch whose connections are folded into A and B when it is trained: (B + c R)(A + b P)."""

    def __init__(self, a: Tensor, b: Tensor, scaling: float) -> None:
        """Begin as a plain branch does: both connections are off."""
        super().__init__(a, b, scaling)
        self.averaged = nn.Parameter(torch.zeros(1))  # b; beta 1 in the paper
        self.copied = nn.Parameter(torch.zeros(1))  # c; beta 2

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Return A + b P and B + c R; differentiable."""
        return connected(self.a, self.averaged), connected(self.b, self.copied)

    def _gathered(self, inputs: Tensor, a: Tensor) -> Tensor:
        if not self.drops:
            return super()._gathered(inputs, a)
        # No dropout on the connection, as in the code of the paper.
        means = spread_means(inputs, self.rank) * self.averaged.to(inputs.dtype)
        return super()._gathered(inputs, self.a) + means * self.scaling


def connected(matrix: Tensor, strength: Tensor) -> Tensor:  # (width, columns), (1,)
    """Return a matrix plus strength times that of `spread_means`, which is never built."""
    width, columns = matrix.shape
    blocks = gcd(width, columns)
    grid = matrix.clone().view(blocks, width // blocks, blocks, columns // blocks)
    grid.diagonal(dim1=0, dim2=2).add_(strength * (blocks / columns))
    return grid.view(width, columns)


def spread_means(rows: Tensor, width: int) -> Tensor:  # (..., columns) -> (..., width)
    """Return the means of as many blocks of columns as divide both, each for as many places."""
    blocks = gcd(rows.shape[-1], width)
    means = rows.reshape(*rows.shape[:-1], blocks, -1).mean(-1)
    return means.repeat_interleave(width // blocks, -1)
