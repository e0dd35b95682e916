"""The two levels, mean - scale and mean + scale, that binarized weights are rounded to.

What PB-LLM and BiLLM share: groups of columns made binary one after another, and again.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hubq.methods import Group, Method, Need
from hubq.methods.solvers.column_solver import DampedRows, Hessian, prepare
from hubq.tensors import SMALLEST_SCALE
from hubq.tensors.kernels.level_fitting import two_means

RIDGE = 1e-3  # of each level's own part in the normal equations: few weights may be left


@dataclass(frozen=True)
class Pair:
    """Two levels for each (out, groups)."""

    mean: Tensor
    scale: Tensor

    def even(self) -> tuple[Tensor, Tensor]:
        """Return the scales and zeros of evenly spaced levels with one bit; code 1 is the upper."""
        step = 2 * self.scale.float().clamp(min=SMALLEST_SCALE)
        return step, 0.5 - self.mean.float() / step


def fit_pair(weight: Tensor, energy: Tensor, without: Tensor | None = None) -> Pair:
    """Find the levels that lose least of each group's output, weighted by the inputs' energy.

    The weight and the mask of weights that don't count are (out, groups, width), the energy is
    (groups, width). The best levels are each the mean of the weights nearest to it.
    """
    if without is None:
        without = torch.zeros(weight.shape, dtype=torch.bool, device=weight.device)
    mean, scale = two_means(weight, energy, without)
    return Pair(mean, scale.clamp(min=SMALLEST_SCALE))


def improve_pair(signs: Tensor, used: Tensor, gradient: Tensor, own: Tensor) -> Pair:
    """Return what to add to a group's levels to lose least of the output, the signs as they are.

    The signs (-1 or 1), the weights that have one (`used`, 1 or 0) and the gradient G e of the
    errors e are (width, out), `own` is the group's part of G; the change is (1, out).
    """
    signs = signs * used
    pulled, pulled_signs = own @ used, own @ signs
    scales = (signs * pulled_signs).sum(0, keepdim=True) * (1 + RIDGE)
    means = (used * pulled).sum(0, keepdim=True) * (1 + RIDGE)
    both = (signs * pulled).sum(0, keepdim=True)
    toward_scale = (signs * gradient).sum(0, keepdim=True)
    toward_mean = (used * gradient).sum(0, keepdim=True)
    determinant = (scales * means - both.square()).clamp(min=torch.finfo(torch.float32).tiny)
    return Pair(
        mean=(scales * toward_mean - both * toward_scale) / determinant,
        scale=(means * toward_scale - both * toward_mean) / determinant,
    )


class BinaryMethod(Method):
    """A method that solves whole groups of columns in the order of their energy."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gram"})

    group_size: int = Field(128, ge=1, description="input columns that share means and scales")
    scale_bits: int = Field(
        6, ge=2, le=8, description="bits of each scale and mean, under one 16-bit scale per row"
    )
    rounds: int = Field(
        1, ge=0, description="rounds of fitting levels and codes to each other again"
    )
    damping: float = Field(
        0.01, gt=0, description="fraction of the mean diagonal that is added to the Hessian"
    )

    def prepared(self, group: Group) -> tuple[Hessian, DampedRows]:
        """Return the Hessian that all layers share, and the damped Gram matrix in its order."""
        hessian = prepare(
            group.inputs,
            self.damping,
            group.layers[0].name,
            activation_order=True,
            together=self.group_size,
        )
        return hessian, hessian.gram(group.inputs, self.damping)
