"""SliM-LLM: give salient groups of columns one bit more, and as many others one bit less.

Huang et al. 2025. A group's salience is the mean of w² / [H⁻¹]² over its weights (section 3.2).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hubq.binarization import Pair, fit_pair
from hubq.clipping import search_reach
from hubq.kernels import Levels
from hubq.method import Group, Layer, Method, Need
from hubq.products import bfloat16_factors
from hubq.solver import Hessian, prepare, solve_on
from hubq.tensors import Affine, Binary, Grid, Mixed, QuantizedTensor

STEPS = (-1, 0, 1)  # from the average width to that of each part


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
    needs: ClassVar[frozenset[Need]] = frozenset({"gram", "sample"})

    bits: Literal[2, 3, 4] = Field(2, description="the average width of the codes")
    group_size: int = Field(128, ge=1, description="input columns that share a width and a scale")
    damping: float = Field(0.01, gt=0, description="of the mean diagonal, added to the Hessian")
    activation_order: bool = Field(
        True, description="solve in the order of the Hessian's diagonal; groups stay in place"
    )
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
        out, columns = shape
        groups = columns // self.group_size
        codes = torch.empty(shape, dtype=torch.uint8, device="meta")
        scale = torch.empty(out, groups, dtype=scale_dtype, device="meta")
        parts = tuple(
            _Width(self._grid(step, scale_dtype), scale, scale).tensor(codes[:, used], used)
            for step in STEPS
            for used in (slice(0 if step else None),)
        )
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
            activation_order=self.activation_order,
        )
        return tuple(self._solve(layer, hessian) for layer in group.layers)

    def _grid(self, step: int, scale_dtype: torch.dtype) -> Grid:
        return Grid(self.bits + step, self.group_size, scale_dtype=scale_dtype)

    def _solve(self, layer: Layer, hessian: Hessian) -> Mixed:
        weight = layer.weight.masked_fill(hessian.unused, 0)
        order = _by_salience(weight, hessian, self.group_size)
        moves = len(order) // 2
        candidates = (order[:moves], order, order[len(order) - moves :])
        widths = [
            self._fit(weight, hessian.energy, self._grid(step, layer.scale_dtype), groups)
            for step, groups in zip(STEPS, candidates, strict=True)
        ]
        assert layer.inputs.sample is not None
        moved = _search(weight, layer.inputs.sample, order, widths)
        part = torch.ones(len(order), dtype=torch.uint8, device=weight.device)
        part[order[:moved]] = 0
        part[order[len(order) - moved :]] = 2
        return self._round(weight, hessian, part, widths)

    def _fit(self, weight: Tensor, energy: Tensor, grid: Grid, groups: Tensor) -> "_Width":
        """Choose the levels of some groups at one width."""
        some = grid.grouped(weight)[:, groups]
        energies = grid.grouped(energy[None])[0, groups]
        if grid.bits == 1:
            none = torch.zeros(some.shape, dtype=torch.bool, device=weight.device)
            pair = fit_pair(some, energies, none, grid.scale_dtype)
            scale, zero = pair.scale, pair.mean
        else:
            flat = some.flatten(1)
            reach = search_reach(flat, energies.flatten(), grid, self.clips)
            scale, zero = grid.span(flat, reach)
        return _Width.spread(grid, groups, scale, zero, len(energy) // self.group_size)

    def _round(
        self, weight: Tensor, hessian: Hessian, part: Tensor, widths: "list[_Width]"
    ) -> Mixed:
        """Solve on the levels of each group's width, and cut the codes into parts."""
        each = [width.even() for width in widths]
        choose = part.long().expand(1, len(weight), -1)
        scale = torch.stack([scale for scale, _ in each]).gather(0, choose)[0]
        zero = torch.stack([zero for _, zero in each]).gather(0, choose)[0]
        top = torch.tensor([width.grid.levels for width in widths], device=weight.device)
        column = torch.arange(weight.shape[1], device=weight.device) // self.group_size
        levels = Levels(scale.T.contiguous(), zero.T.contiguous(), top[part.long()].float(), column)
        codes = solve_on(hessian, weight, levels)
        parts = tuple(
            width.tensor(codes[:, part[column] == number], part == number)
            for number, width in enumerate(widths)
        )
        return Mixed(parts, part, self.group_size, facts=hessian.facts)


@dataclass(frozen=True)
class _Width:
    """The levels of one width, for each (out, groups); where none were fitted they are zero."""

    grid: Grid
    scale: Tensor
    zero: Tensor  # float32; at one bit the mean, in the file's dtype

    @classmethod
    def spread(
        cls, grid: Grid, groups: Tensor, scale: Tensor, zero: Tensor, total: int
    ) -> "_Width":
        """Put what was fitted to some groups in their places among all."""
        return cls(
            grid,
            scale.new_zeros(len(scale), total).index_copy_(1, groups, scale),
            zero.new_zeros(len(zero), total).index_copy_(1, groups, zero),
        )

    def even(self) -> tuple[Tensor, Tensor]:
        """Return the scales and zeros of evenly spaced levels, (out, groups) float32."""
        if self.grid.bits > 1:
            return self.scale.float(), self.zero
        return Pair(self.zero, self.scale).even()

    def round(self, weight: Tensor, groups: Tensor) -> Tensor:
        """Return some groups' weights (out, groups, width) rounded."""
        scale, zero = (each[:, groups, None] for each in self.even())
        codes = (weight / scale + zero).round_().clamp_(0, self.grid.levels)
        return codes.sub_(zero).mul_(scale)

    def tensor(self, codes: Tensor, groups: Tensor | slice) -> QuantizedTensor:
        """Return the part that some groups make."""
        scale, zero = self.scale[:, groups], self.zero[:, groups]
        size = self.grid.group_size
        if self.grid.bits == 1:
            return Binary(codes.bool()[None], (scale,), zero, size)
        return Affine(codes, scale, zero.to(torch.uint8), self.grid.bits, size)


def _by_salience(weight: Tensor, hessian: Hessian, group_size: int) -> Tensor:
    """Return the groups of columns, the least salient first."""
    cost = hessian.in_place(hessian.pivots)
    column = weight.square().sum(0) * cost
    return column.reshape(-1, group_size).sum(1).argsort(stable=True)


def _search(weight: Tensor, sample: Tensor, order: Tensor, widths: "list[_Width]") -> int:
    """Return how many groups to move up and down for the least divergence of the outputs.

    The divergence is that of softmax(x Ŵᵀ) from softmax(x Wᵀ), averaged over the tokens. Moving
    one more pair changes the outputs by what two groups of columns give.
    """
    less, same, more = widths
    grouped = same.grid.grouped(weight)
    inputs = sample.reshape(len(sample), len(order), -1)
    every = torch.arange(len(order), device=weight.device)
    plain = same.round(grouped, every)

    def change(width: _Width, group: Tensor) -> Tensor:
        rounded = width.round(grouped[:, group], group) - plain[:, group]
        return inputs[:, group].flatten(1) @ rounded.flatten(1).T

    with bfloat16_factors():
        divergence = _divergence(sample @ weight.T)
        error = sample @ (plain - grouped).flatten(1).T
        losses = [divergence(error)]
        for moved in range(len(order) // 2):
            down, up = order[moved, None], order[-1 - moved, None]
            error += change(less, down) + change(more, up)
            losses.append(divergence(error))
    return losses.index(min(losses))


def _divergence(exact: Tensor) -> Callable[[Tensor], float]:  # (tokens, out)
    """Return the function from an error of the outputs to their mean divergence, in nats."""
    likely = exact.softmax(1)
    normalizer = exact.logsumexp(1)

    def divergence(error: Tensor) -> float:
        shift = (exact + error).logsumexp(1) - normalizer
        return float((shift - torch.einsum("to,to->t", likely, error)).mean())

    return divergence
