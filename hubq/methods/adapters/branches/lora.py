"""LoRA's branch (Hu et al. 2022, section 4.1): scaling B A x beside a frozen linear."""

import hashlib
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from hubq.methods.adapters.branches.correction import Correction


class Branch(nn.Module):
    """Two thin float32 matrices, multiplied in the dtype of their inputs."""

    def __init__(self, a: Tensor, b: Tensor, scaling: float) -> None:
        """Begin with given matrices, (rank, in) and (out, rank); `scaling` is alpha / rank."""
        super().__init__()
        self.a = nn.Parameter(a.float())
        self.b = nn.Parameter(b.float())
        self.scaling = scaling
        self.dropout = 0.0  # share of A's inputs that is left out while `moment` is set
        self.seed = 0
        self.moment: int | None = None

    @property
    def rank(self) -> int:
        """The rows of A."""
        return len(self.a)

    def forward(self, inputs: Tensor) -> Tensor:  # (..., in) -> (..., out)
        """Return what is added to the linear's outputs."""
        a, b = self.matrices()
        return linear(self._gathered(inputs, a), b.to(inputs.dtype))

    def onto(self, outputs: Tensor, inputs: Tensor) -> Tensor:  # (n, out), (n, in)
        """Add it to a linear's outputs, in place: on a CPU that saves passes over the memory."""
        a, b = self.matrices()
        return outputs.addmm_(self._gathered(inputs, a), b.to(inputs.dtype).T)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Return the A and B of a plain LoRA that adds the same; differentiable."""
        return self.a, self.b

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return the same as they are by now."""
        a, b = self.matrices()
        return a.detach(), b.detach()

    def _gathered(self, inputs: Tensor, a: Tensor) -> Tensor:  # (..., in) -> (..., rank)
        return linear(self._dropped(inputs), a.to(inputs.dtype)) * self.scaling

    @property
    def drops(self) -> bool:
        """Whether inputs are left out just now."""
        return bool(self.dropout) and self.moment is not None

    def _dropped(self, inputs: Tensor) -> Tensor:
        """Leave some inputs out, the same whenever this moment's inputs come through again."""
        if not self.drops:
            return inputs
        device = inputs.device if inputs.is_cuda else torch.device("cpu")
        generator = torch.Generator(device).manual_seed(seed_of(self.moment, self.seed))
        kept = torch.empty(inputs.shape, device=device)
        kept.bernoulli_(1 - self.dropout, generator=generator).div_(1 - self.dropout)
        return inputs * kept.to(inputs.device, inputs.dtype)


def beginning(name: str, shape: tuple[int, int], rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return A (rank, in), random by the linear's name and a seed, and B (out, rank) of zeros.

    A is uniform within 1 / sqrt(in), as peft begins: Kaiming's bound for a slope of sqrt 5.
    """
    out, columns = shape
    bound = 1 / math.sqrt(columns)
    generator = torch.Generator().manual_seed(seed_of(name, seed))
    a = torch.empty(rank, columns).uniform_(-bound, bound, generator=generator)
    return a, torch.zeros(out, rank)


def started(
    fresh: tuple[Tensor, Tensor], correction: Correction, scaling: float
) -> tuple[Tensor, Tensor]:
    """Return fresh matrices with a correction in their place, as far as its rank goes."""
    a, b = (each.clone() for each in fresh)
    found = len(correction.a)
    a[:found], b[:, :found] = correction.a, correction.b / scaling
    return a, b


def seed_of(drawn: object, seed: int) -> int:
    """Return a seed for one of the things that are drawn by a recipe's seed."""
    digest = hashlib.sha256(f"{seed}: {drawn}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
