"""SliM-LLM: give salient groups of columns one bit more, and as many others one bit less.

Huang et al. 2025. A group's salience is the mean of w² / [H⁻¹]² over its weights (section 3.2).
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hubq.kernels import Levels
from hubq.method import Group, Layer, Method, Need
from hubq.solver import Hessian, Rounding, prepare
from hubq.tensors import Grid, Mixed
from hubq.widths import Width

STEPS = (-1, 0, 1)  # from the average width to that of each part
ROWS = 64  # of a layer, spread evenly, on which the number of groups to move is searched
TRIES = 16  # of that number at most, beside none


class SliMLLM(Method):
    """Mixed widths by salience: N-1, N and N+1 bits that average exactly N."""

    title: ClassVar[str] = "SliM-LLM"
    paper: ClassVar[str] = "https://arxiv.org/abs/2405.14917"
    bibtex: ClassVar[str] = """@inproceedings{huang2025slimllm,
  title = {{SliM-LLM}: Salience-Driven Mixed-Precision Quantization for Large Language Models},
  author = {Huang, Wei and Qin, Haotong and Liu, Yangdong and Li, Yawei and others},
  booktitle = {International Conference on Machine Learning},
  year = {2025}
}"""
    needs: ClassVar[frozenset[Need]] = frozenset({"gram"})

    bits: Literal[2, 3, 4] = Field(2, description="the average width of the codes")
    group_size: int = Field(128, ge=1, description="input columns that share a width and a scale")
    damping: float = Field(0.01, gt=0, description="of the mean diagonal, added to the Hessian")
    clips: int = Field(
        10, ge=0, le=19, description="how many clips of a group's range are tried, 5 % apart"
    )

    @property
    def nominal_bits(self) -> float:
        """The average width: as many groups go up as down."""
        return float(self.bits)

    def mistake(self, shape: tuple[int, int]) -> str | None:
        """Refuse a group size that leaves a ragged group: the average would not be exact."""
        columns = shape[1]
        if columns % self.group_size == 0:
            return None
        fitting = [str(size) for size in (32, 64, 128, 256) if columns % size == 0]
        way_out = f"use {' or '.join(fitting)}" if fitting else "use a divisor"
        return f"group_size {self.group_size} does not divide {columns} inputs; {way_out}"

    def sketch(self, shape: tuple[int, int], scale_dtype: torch.dtype) -> Mixed:
        """Return a tensor with all groups at the average width."""
        codes = torch.empty(shape, dtype=torch.uint8, device="meta")
        parts = tuple(
            width.tensor(codes[:, used], used)
            for width in self._widths(shape, scale_dtype, "meta")
            for used in (slice(None if width.grid.bits == self.bits else 0),)
        )
        groups = shape[1] // self.group_size
        part = torch.empty(groups, dtype=torch.uint8, device="meta")
        return Mixed(parts, part, self.group_size)

    def quantize(self, layer: Layer) -> Mixed:
        """Solve one layer."""
        return self.quantize_group(Group((layer,)))[0]

    def quantize_group(self, group: Group) -> tuple[Mixed, ...]:
        """Solve each layer by the one Hessian that all share."""
        hessian = prepare(
            group.inputs,
            self.damping,
            group.layers[0].name,
            activation_order=True,
            together=self.group_size,
        )
        return tuple(self._solve(layer, hessian) for layer in group.layers)

    def _widths(
        self, shape: Sequence[int], dtype: torch.dtype, device: str | torch.device
    ) -> list[Width]:
        grids = [Grid(self.bits + step, self.group_size, scale_dtype=dtype) for step in STEPS]
        return [Width.unset(grid, shape, device) for grid in grids]

    def _solve(self, layer: Layer, hessian: Hessian) -> Mixed:
        weight = layer.weight.masked_fill(hessian.unused, 0)
        widths = self._widths(layer.weight.shape, layer.scale_dtype, weight.device)
        part = self._search(weight, hessian)
        column = torch.arange(weight.shape[1], device=weight.device) // self.group_size
        rounding = Rounding(hessian, weight, _levels(widths, part, column))
        energy = hessian.energy[hessian.order]

        def fit(here: slice, foreseen: Tensor) -> None:
            """Fit a group's levels to its weights as the errors so far move them."""
            group = rounding.levels.group[here][:1]
            width = widths[int(part[group])]
            width.fit(group, foreseen.T.contiguous(), energy[here], self.clips)
            scale, zero = width.even(group)
            rounding.levels.scale[group], rounding.levels.zero[group] = scale.T, zero.T

        codes = rounding.solve(fit, self.group_size)
        parts = tuple(
            width.tensor(codes[:, part[column] == number].contiguous(), part == number)
            for number, width in enumerate(widths)
        )
        return Mixed(parts, part, self.group_size, facts=hessian.facts)

    def _search(self, weight: Tensor, hessian: Hessian) -> Tensor:  # (groups,) uint8
        """Return the assignment that loses least when some rows of the layer are solved."""
        some = weight[:: max(1, len(weight) // ROWS)]
        ranking = _by_salience(weight, hessian, self.group_size)
        widths = self._candidates(some, hessian.energy, ranking)
        column = torch.arange(weight.shape[1], device=weight.device) // self.group_size

        def loss(part: Tensor) -> float:
            rounding = Rounding(hessian, some, _levels(widths, part, column))
            rounding.solve()
            return hessian.loss(rounding.errors)

        return min(_assignments(ranking), key=loss)

    def _candidates(self, weight: Tensor, energy: Tensor, ranking: Tensor) -> list[Width]:
        """Fit each width to the groups that may have it."""
        widths = self._widths(weight.shape, torch.float32, weight.device)
        grouped = widths[0].grid.grouped(weight)
        energies = energy.view(-1, self.group_size)
        most = len(ranking) // 2
        candidates = (ranking[:most], ranking, ranking[len(ranking) - most :])
        for width, groups in zip(widths, candidates, strict=True):
            if len(groups):
                flat = grouped[:, groups].flatten(1)
                width.fit(groups, flat, energies[groups].flatten(), self.clips)
        return widths


def _assignments(ranking: Tensor) -> Iterator[Tensor]:
    """Give the part of each group, with more and more groups moved down and up."""
    most = len(ranking) // 2
    for count in sorted({most * step // TRIES for step in range(TRIES + 1)}):
        part = torch.ones(len(ranking), dtype=torch.uint8, device=ranking.device)
        part[ranking[:count]] = 0
        part[ranking[len(ranking) - count :]] = 2
        yield part


def _levels(widths: list[Width], part: Tensor, column: Tensor) -> Levels:
    """Return the levels of each group at the width of its part."""
    each = [width.even() for width in widths]
    choose = part.long()[None, None].expand(1, len(widths[0].scale), -1)
    scale, zero = (torch.stack(both).gather(0, choose)[0] for both in zip(*each, strict=True))
    tops = torch.tensor([float(width.grid.levels) for width in widths], device=part.device)
    return Levels(scale.T.contiguous(), zero.T.contiguous(), tops[part.long()], column)


def _by_salience(weight: Tensor, hessian: Hessian, group_size: int) -> Tensor:
    """Return the groups of columns, the least salient first."""
    column = weight.square().sum(0) * hessian.in_place(hessian.pivots)
    return column.view(-1, group_size).sum(1).argsort(stable=True)
