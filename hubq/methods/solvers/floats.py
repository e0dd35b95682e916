"""What the methods share that round to floats: scales first, then elements, plainly or by GPTQ.

Scales are chosen on the weights as they are, before any is rounded. With GPTQ's error feedback the
elements are then rounded column by column (hubq/methods/solvers/column_solver.py), in the order of
activation energy, to the table of all elements under these scales; the scales are those that lose
least by the inputs' energy. Without data they lose least of the weights.
"""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hubq.methods import Group, Holds, Layer, Method, Need
from hubq.methods.solvers.column_solver import Hessian, prepare, solve_on
from hubq.runtime.pieces import row_pieces
from hubq.tensors import Floating
from hubq.tensors.floating import (
    E2M1,
    GREATEST,
    MAGNITUDES,
    e2m1_values,
    round_to_e2m1,
    scale_values,
)
from hubq.tensors.kernels.column_rounding import Levels


class FloatMethod(Method):
    """A method whose result is a Floating tensor."""

    with_feedback: ClassVar[Holds]  # what GPTQ's feedback holds, as `holds` is what plain rounding
    symmetric: ClassVar[bool] = True  # of a head in integers; no option

    solver: Literal["rtn", "gptq"] = Field(
        "rtn",
        description="round plainly, or column by column with GPTQ's feedback, which needs a text",
    )
    damping: float = Field(
        0.01, gt=0, description="fraction of the mean diagonal that GPTQ adds to the Hessian"
    )

    @property
    def needed(self) -> frozenset[Need]:
        """What these options need: GPTQ the Gram matrix, a scale of inputs their greatest."""
        gram: frozenset[Need] = frozenset({"gram"} if self.solver == "gptq" else ())
        return gram | (frozenset({"magnitude"}) if self.calibrates_inputs else frozenset())

    @property
    def held(self) -> Holds:
        """What plain rounding holds, or GPTQ's feedback."""
        return self.holds if self.solver == "rtn" else self.with_feedback

    @property
    def calibrates_inputs(self) -> bool:
        """Whether the calibration text chooses a scale for inputs."""
        return False

    @property
    def variant(self) -> str:
        """Name GPTQ, and inputs that are rounded to 4 bits."""
        inputs = "W4A4" if self.activation_bits == 4 else ""
        return "-".join(filter(None, ("GPTQ" if self.solver == "gptq" else "", inputs)))

    def quantize(self, layer: Layer) -> Floating:
        """Solve one layer."""
        return self.quantize_group(Group((layer,)))[0]

    def quantize_group(self, group: Group) -> tuple[Floating, ...]:
        """Solve layers with one Hessian, and with what is one for all of them."""
        hessian = self._prepared(group)
        shared = self.shared(group)
        return tuple(self._solved(layer, hessian, shared) for layer in group.layers)

    def shared(self, group: Group) -> Floating | None:
        """Return what all layers of a group have in common, in a tensor of no rows; or nothing."""
        return None

    @abstractmethod
    def scaled(self, layer: Layer, energy: Tensor | None, shared: Floating | None) -> Floating:
        """Return a layer's scales, with elements that are yet to be rounded.

        `energy` (in,) is that of each input, where data shows it.
        """

    def _prepared(self, group: Group) -> Hessian | None:
        if self.solver == "rtn":
            return None
        return prepare(group.inputs, self.damping, group.layers[0].name, activation_order=True)

    def _solved(self, layer: Layer, hessian: Hessian | None, shared: Floating | None) -> Floating:
        if hessian is None:
            return self.scaled(layer, None, shared).rounded(layer.weight)
        layer = replace(layer, weight=layer.weight.masked_fill(hessian.unused, 0))
        found = self.scaled(layer, hessian.energy, shared)
        places = solve_on(hessian, layer.weight, _levels(found))
        codes = _ascending(found.codes.dtype).to(places.device)[places.int()]
        return replace(found, codes=codes, facts=hessian.facts)


class FourBitFloats(FloatMethod):
    """A method that rounds to e2m1, in groups whose scales are searched."""

    holds: ClassVar[Holds] = Holds(weights=6, grams=0)
    with_feedback: ClassVar[Holds] = Holds(weights=7)
    width: ClassVar[int]  # columns of a group

    search: bool = Field(True, description="choose the scale that loses least among its neighbours")
    activations: Literal[16, 4] = Field(
        16, description="bits of inputs; 4 is only faster on GPUs that multiply such floats"
    )

    @property
    def nominal_bits(self) -> float:
        """The width of an element."""
        return 4.0

    @property
    def activation_bits(self) -> int | None:
        """The width of inputs, unless they are left alone."""
        return None if self.activations == 16 else self.activations

    @property
    def rounded_inputs(self) -> str:
        """Say to what inputs are rounded as they arrive; or nothing."""
        return "" if self.activations == 16 else f"4-bit floats per {self.width} inputs of a token"

    def why_unsupported(self, shape: tuple[int, int]) -> str | None:
        """Refuse a row that groups don't divide: the format has no shorter ones."""
        if shape[1] % self.width == 0:
            return None
        return f"groups of {self.width} do not divide {shape[1]} inputs; use another method"


def _levels(tensor: Floating) -> Levels:
    """Return all elements as levels of each column."""
    steps = tensor.steps()
    table = _values(_ascending(tensor.codes.dtype)).to(steps.device)
    top = torch.full((steps.shape[1],), float(len(table) - 1), device=steps.device)
    group = torch.arange(tensor.shape[1]) // tensor.block[1]
    steps = steps.T.contiguous()
    return Levels(steps, torch.zeros_like(steps), top, group, table)


@cache
def _ascending(dtype: torch.dtype) -> Tensor:  # (15,) or (253,)
    """Return the codes of all elements, the least first, with a single zero."""
    if dtype == E2M1:
        count = len(MAGNITUDES)
        return torch.tensor([*range(2 * count - 1, count, -1), *range(count)], dtype=E2M1)
    above = torch.arange(int(torch.tensor(GREATEST[dtype]).to(dtype).view(torch.uint8)) + 1)
    positive = above.to(torch.uint8).view(dtype)
    return torch.cat([(positive[1:].view(torch.uint8) + 128).flip(0).view(dtype), positive])


def _values(codes: Tensor) -> Tensor:
    """Return what codes stand for, in float32."""
    return e2m1_values(codes) if codes.dtype == E2M1 else codes.float()


def greatest_of_groups(weight: Tensor, width: int) -> Tensor:  # (out, in) -> (out, groups)
    """Return the greatest magnitude of each group of columns, in float32."""
    found = torch.empty(len(weight), weight.shape[1] // width, device=weight.device)
    for rows in row_pieces(weight.shape, weight.device):
        found[rows] = weight[rows].view(-1, found.shape[1], width).abs().amax(2).float()
    return found


def search_scales(
    weight: Tensor, scale: Tensor, like: Floating, energy: Tensor | None, shifts: Iterable[int]
) -> Tensor:
    """Return for each group the stored scale that loses least among a scale's neighbours.

    `scale` (out, groups) uint8 holds bits of e4m3 or exponents of e8m0: neighbours differ by 1.
    The loss is the squared error of the weights, times each input's energy (in,) where it is known.
    """
    found = torch.empty_like(scale)
    for rows in row_pieces(weight.shape, weight.device):
        grouped = weight[rows].float().view(-1, scale.shape[1], like.block[1])
        found[rows] = _best(grouped, scale[rows], like, energy, shifts)
    return found


def _best(
    grouped: Tensor, scale: Tensor, like: Floating, energy: Tensor | None, shifts: Iterable[int]
) -> Tensor:
    """Return the best scales (rows, groups) of some rows, (rows, groups, width)."""
    weights = None if energy is None else energy.view(grouped.shape[1:])
    best, least = scale, torch.full(scale.shape, torch.inf, device=scale.device)
    last = 126 if like.divisor is not None else 254  # of e4m3, and of e8m0
    for shift in shifts:
        tried = (scale.int() + shift).clamp_(1, last).to(torch.uint8)
        stored = tried if like.divisor is None else tried.view(like.scale.dtype)
        steps = scale_values(stored, like.divisor)[..., None]
        errors = round_to_e2m1(grouped / steps).mul_(steps).sub_(grouped).square_()
        loss = (errors if weights is None else errors.mul_(weights)).sum(2)
        best, least = torch.where(loss < least, tried, best), torch.minimum(loss, least)
    return best
