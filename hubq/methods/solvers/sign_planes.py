"""Two planes of signs: fitted as four levels of a row, or trained with a scale each.

The levels are mean ± larger ± smaller. Both a residual binarization of order 2 and a split into
small and large weights are of this form (hubq/tensors/binary.py), and so both are fitted alike.
Everything is transposed and in solving order, as hubq/methods/solvers/column_solver.py has it.

Those that are trained are w = a1 b1 + a2 b2, b in {0, 1}.
"""

from typing import Any

import torch
from torch import Tensor

from hubq.methods.solvers.column_solver import Hessian
from hubq.tensors import SMALLEST_SCALE, Affine, Binary, Grid, Values, values
from hubq.tensors.kernels.sign_plane_refit import refit_levels
from hubq.tensors.kernels.sign_planes import fit_levels, round_to_signs, sign_errors

SCALE_BITS = 8
MARGIN = 0.05  # of a step: how far inside of its level's range a weight begins


class Planes:
    """The levels and the signs of one layer; each group of columns is two sets.

    Set 2g holds the columns of group g that are not apart, set 2g + 1 those that are.
    """

    def __init__(
        self, weight: Tensor, hessian: Hessian, apart: Tensor, group_size: int, *, means: bool
    ) -> None:  # (out, in), (in,) bool
        self.means = means
        self.columns = hessian.columns(weight)
        self.energy = hessian.energy[hessian.order]
        self.apart = apart[hessian.order]
        self.group = hessian.order.cpu() // group_size  # (in,) int64: no block waits for a device
        self.sets = 2 * (hessian.order // group_size) + self.apart  # (in,) int64
        sets = 2 * -(-len(apart) // group_size)
        # The larger scales, the smaller ones and the means.
        self.levels = torch.zeros(3, sets, len(weight), device=weight.device)
        # Bit 0 is the sign of the larger scale, bit 1 that of the smaller one.
        self.codes = torch.empty(self.columns.shape, dtype=torch.uint8, device=weight.device)

    def fit_and_round(self, here: slice, moved: Tensor, feedback: Tensor) -> Tensor:
        """Fit a group's levels to the weights as the errors so far have moved them, and round."""
        levels, _ = fit_levels(moved.T, self.energy[here], self.apart[here], means=self.means)
        self.levels[:, self._pair(here)] = levels
        return self.round(here, moved, feedback)

    def round(self, here: slice, moved: Tensor, feedback: Tensor) -> Tensor:
        """Round a block to the levels as they stand."""
        self.codes[here], errors = round_to_signs(
            self.columns[here], moved, feedback, *self._own(here)
        )
        return errors

    def errors(self) -> Tensor:
        """Return the weight minus what its signs and levels stand for."""
        return sign_errors(self.columns, self.codes, self.levels, self.sets)

    def refit(self, here: slice, gradient: Tensor, own: Tensor) -> Tensor:
        """Give a group the levels that lose least of the layer's output, its signs as they are."""
        pair = self._pair(here)
        self.levels[:, pair], self.codes[here] = refit_levels(
            self.codes[here],
            self.apart[here],
            self.levels[:, pair],
            gradient,
            own,
            means=self.means,
        )
        return sign_errors(self.columns[here], self.codes[here], *self._own(here))

    def store(self, bits: int, dtype: torch.dtype) -> tuple[Affine, ...]:
        """Round the levels to the codes that the file holds, and return them, (out, sets) each."""
        kept = self.levels if self.means else self.levels[:2]
        grid = Grid(bits, scale_dtype=dtype)
        stored = tuple(Affine.fit(each.T, grid) for each in kept)
        for level, each in zip(self.levels, stored, strict=False):
            level.copy_(each.dequantize().T)
        return stored

    def _pair(self, here: slice) -> slice:
        """Return the two sets of the group that a block is."""
        group = int(self.group[here.start])
        return slice(2 * group, 2 * group + 2)

    def _own(self, here: slice) -> tuple[Tensor, Tensor]:  # (3, 2, out), (width,) int64
        """Return the levels of these two sets, and which of them each column is of."""
        return self.levels[:, self._pair(here)], self.apart[here].long()


class DualPlanes:
    """The planes of one linear in training: its weights and scales, in steps of the first grid."""

    def __init__(self, start: Binary, weight: Tensor) -> None:
        self.start = start
        first, second = (values(each) for each in start.scale)  # (out, groups)
        self.step = (first.abs() / 2).clamp(min=SMALLEST_SCALE)
        self.scales = torch.stack([first, second]) / self.step  # (2, out, groups)
        grouped = weight.view(*self.step.shape, start.group_size) / self.step[..., None]
        self.latent = _moved(grouped, start.signs.view(2, *grouped.shape), self.scales)
        self.latent.requires_grad_()
        self.scales.requires_grad_()

    def weight(self) -> Tensor:
        """Return a1 b1 + a2 b2, (out, in) float32, differentiable by the weights and scales."""
        found: Tensor = _Binarized.apply(  # type: ignore[no-untyped-call] # torch leaves it open
            self.latent, self.scales, self.step, self._rounded()
        )
        return found

    def binary(self) -> Binary:
        """Return what is stored: the very weights of the last forward pass."""
        signs = nearest_planes(self.latent.detach(), self._rounded() / self.step)
        scale = tuple(round_scale(each, self._dtype) for each in self.scales.detach() * self.step)
        return Binary(
            signs=signs.flatten(2).contiguous(),
            scale=scale,
            mean=None,
            group_size=self.start.group_size,
            unipolar=True,
            facts=self.start.facts,
        )

    def _rounded(self) -> Tensor:
        """Return the scales as they would be stored now, (2, out, groups)."""
        exact = self.scales.detach() * self.step
        return torch.stack([values(round_scale(each, self._dtype)) for each in exact])

    @property
    def _dtype(self) -> torch.dtype:
        scale = self.start.scale[0]
        assert isinstance(scale, Affine)
        assert isinstance(scale.scale, Tensor)
        return scale.scale.dtype


class _Binarized(torch.autograd.Function):
    """a1 b1 + a2 b2 with b from the nearest level; weights learn as if they were not rounded."""

    @staticmethod
    def forward(
        context: Any,  # noqa: ANN401 - torch's context of an autograd function
        latent: Tensor,  # (out, groups, width), in steps
        scales: Tensor,  # (2, out, groups), in steps
        step: Tensor,  # (out, groups)
        rounded: Tensor,  # (2, out, groups): the scales as stored
    ) -> Tensor:
        first, second = nearest_planes(latent, rounded / step)
        context.save_for_backward(first, second, step)
        high, low = rounded[..., None]
        weight: Tensor = high * first + low * second
        return weight.flatten(1)

    @staticmethod
    def backward(
        context: Any,  # noqa: ANN401
        *gradients: Tensor,
    ) -> tuple[Tensor, Tensor, None, None]:
        first, second, step = context.saved_tensors
        by_step = gradients[0].view(first.shape) * step[..., None]
        by_scale = torch.stack([(by_step * first).sum(2), (by_step * second).sum(2)])
        return by_step, by_scale, None, None


def dual_binary(start: Affine) -> Binary:
    """Write a 2-bit grid as two planes: with its zero z, the levels are -z to 3 - z steps.

    Around a zero of 1, a1 = 2 and a2 = -1 steps give -1, 0, 1 and 2; the other zeros have other
    signs: 0 has 2 and 1, 2 has -2 and 1, and 3 has -2 and -1.
    """
    assert start.zero is not None
    assert isinstance(start.scale, Tensor)
    zero = start.zero.int()
    first, second = torch.where(zero < 2, 2, -2), torch.where(zero % 2 == 1, -1, 1)
    level = Grid(start.bits, start.group_size).grouped(start.codes).int() - zero[..., None]
    odd = level % 2 == 1
    signs = torch.stack([level != second[..., None] * odd, odd])
    scale = start.scale.float()
    return Binary(
        signs=signs.flatten(2)[..., : start.shape[1]].contiguous(),
        scale=tuple(round_scale(scale * each, start.scale.dtype) for each in (first, second)),
        mean=None,
        group_size=start.group_size,
        unipolar=True,
        facts=start.facts,
    )


def nearest_planes(weight: Tensor, scales: Tensor) -> Tensor:
    """Return the planes (2, out, groups, width) of the level nearest to each weight.

    The scales (2, out, groups) may have any signs; the first is the larger by its size.
    """
    high, low = scales[..., None]
    first = (weight > (high + low) / 2) ^ (high < 0)
    return torch.stack([first, (weight - high * first > low / 2) ^ (low < 0)])


def _moved(weight: Tensor, planes: Tensor, scales: Tensor) -> Tensor:
    """Move each weight the least that makes its nearest planes the given ones."""
    high, low = scales[..., None]
    for border, scale, plane in (
        ((high + low) / 2, high, planes[0]),
        (high * planes[0] + low / 2, low, planes[1]),
    ):
        up = plane ^ (scale < 0)
        weight = torch.where(
            up, torch.maximum(weight, border + MARGIN), torch.minimum(weight, border - MARGIN)
        )
    return weight


def round_scale(scale: Tensor, dtype: torch.dtype) -> Values:
    """Round scales (out, groups) to 8 bits, with a 16-bit scale for each row."""
    return Affine.fit(scale, scale_grid(dtype))


def scale_grid(dtype: torch.dtype) -> Grid:
    """Return the grid of the scales themselves."""
    return Grid(SCALE_BITS, symmetric=True, scale_dtype=dtype)
