"""The two levels, mean - scale and mean + scale, that binarized weights are rounded to."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hubq.kernels import two_means
from hubq.tensors import SMALLEST_SCALE


@dataclass(frozen=True)
class Pair:
    """Two levels for each (out, groups), as the file stores them."""

    mean: Tensor
    scale: Tensor

    def even(self) -> tuple[Tensor, Tensor]:
        """Return the scales and zeros of evenly spaced levels with one bit; code 1 is the upper."""
        step = 2 * self.scale.float()
        return step, 0.5 - self.mean.float() / step


def fit_pair(weight: Tensor, energy: Tensor, without: Tensor, dtype: torch.dtype) -> Pair:
    """Find the levels that lose least of each group's output, weighted by the inputs' energy.

    The weight and the mask of weights that don't count are (out, groups, width), the energy is
    (groups, width). The best levels are each the mean of the weights nearest to it.
    """
    mean, scale = two_means(weight, energy, without)
    return Pair(mean.to(dtype), scale.clamp(min=SMALLEST_SCALE).to(dtype))
