"""SliM-LLM: give salient groups of columns one bit more, and as many others one bit less.

Huang et al. 2025. A group's salience is the sum of w² / [H⁻¹]² over its weights (section 3.2). The
most salient groups get N+1 bits, as many of the least salient N-1, and the average stays exactly N;
one bit is a mean and a scale with signs. The layer is then solved as GPTQ solves it, in activation
order with groups in place.

Where it departs from the paper:
- How many groups move is searched (section 3.2), but not by the divergence of softmax(x Ŵᵀ) under
  plain rounding, which moves groups that error compensation serves better at N bits. Instead some
  rows are solved for each number, and the one that loses least of the outputs is taken. Moving none
  is tried too, which the published code doesn't. Errors of the outputs on XSum, as geometric means
  over six layers of SmolLM2 relative to GPTQ's: 0.98 and 1.02 by divergence at 2 and 3 bits, 0.83
  and 0.86 by solving. By divergence the perplexities on XSum and BoolQ were 196 and 191 at 2 bits,
  42.5 and 34.2 at 3, where GPTQ had 195 and 184, 43.0 and 34.8.
- Levels are clipped by the loss weighted by each input's energy (hubq/methods/solvers/clipping.py),
  as GPTQ's are here, in place of the scan of ±10 % weighted by a mask of salient weights (section
  3.3).
- The mean and the scale of a group of one bit take 8 bits each: it costs no more than the others.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hubq.methods import Group, Holds, Layer, Method, Need, ragged
from hubq.methods.solvers.column_solver import Hessian, Rounding, prepare, solve_on
from hubq.methods.solvers.group_widths import Width
from hubq.tensors import Grid, Mixed
from hubq.tensors.kernels.column_rounding import Levels

STEPS = (-1, 0, 1)  # from the average width to that of each part
AVERAGE = 1  # the part at the average width
ROWS = 64  # of a layer, spread evenly, on which the number of groups to move is searched
TRIES = 16  # of that number at most, beside none
STACKED = 1 << 24  # weights of candidates that are solved at once: 64 MB for each copy of them


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
    holds: ClassVar[Holds] = Holds(weights=6, block=2)

    bits: Literal[2, 3, 4] = Field(2, description="average width of the codes")
    group_size: int = Field(128, ge=1, description="input columns that share a width and a scale")
    damping: float = Field(
        0.01, gt=0, description="fraction of the mean diagonal that is added to the Hessian"
    )
    clips: int = Field(
        10, ge=0, le=19, description="how many clipped ranges are tried per group, 5 % apart"
    )

    @property
    def nominal_bits(self) -> float:
        """The average width: as many groups go up as down."""
        return float(self.bits)

    def why_unsupported(self, shape: tuple[int, int]) -> str | None:
        """Refuse a group size that leaves a ragged group: the average would not be exact."""
        return ragged(self.group_size, shape[1])

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
        )
        return tuple(self._solve(layer, hessian) for layer in group.layers)

    def _widths(
        self, shape: Sequence[int], dtype: torch.dtype, device: str | torch.device
    ) -> list[Width]:
        grids = [Grid(self.bits + step, self.group_size, scale_dtype=dtype) for step in STEPS]
        return [Width.unset(grid, shape, device) for grid in grids]

    def _solve(self, layer: Layer, hessian: Hessian) -> Mixed:
        weight = layer.weight.masked_fill(hessian.unused, 0)
        part = self._search(weight, hessian)
        column = self._group(weight)
        own = [(part == number).nonzero()[:, 0] for number in range(len(STEPS))]
        widths = self._fitted(weight, hessian.energy, own, layer.scale_dtype)
        codes = solve_on(hessian, weight, _levels(widths, part, column))
        parts = tuple(
            width.tensor(codes[:, part[column] == number].contiguous(), groups)
            for number, (width, groups) in enumerate(zip(widths, own, strict=True))
        )
        return Mixed(parts, part, self.group_size, facts=hessian.facts)

    def _search(self, weight: Tensor, hessian: Hessian) -> Tensor:  # (groups,) uint8
        """Return the assignment that loses least when some rows of the layer are solved."""
        some = weight[:: max(1, len(weight) // ROWS)]
        ranking = _by_salience(weight, hessian, self.group_size)
        most = len(ranking) // 2
        candidates = (ranking[:most], ranking, ranking[len(ranking) - most :])
        widths = self._fitted(some, hessian.energy, candidates, torch.float32)
        column = self._group(weight)
        parts = _assignments(ranking)
        # In the first no group moves; in the last all that do in any, each to the same width.
        stay, move = (_levels(widths, part, column) for part in (parts[0], parts[-1]))
        losses: list[float] = []
        for stack in torch.split(parts, max(1, STACKED // some.numel())):
            moved = (stack != AVERAGE)[:, column].repeat_interleave(len(some), dim=0)
            rounding = Rounding(
                hessian,
                some.repeat(len(stack), 1),
                _repeated(stay, len(stack)),
                (moved, _repeated(move, len(stack))),
            )
            rounding.solve()
            losses += hessian.losses(rounding.errors.view(-1, len(stack), len(some))).tolist()
        return parts[losses.index(min(losses))]

    def _fitted(
        self, weight: Tensor, energy: Tensor, own: Sequence[Tensor], dtype: torch.dtype
    ) -> list[Width]:
        """Fit each width to its own groups."""
        widths = self._widths(weight.shape, dtype, weight.device)
        grouped, energies = (widths[0].grid.grouped(each) for each in (weight, energy[None]))
        for width, groups in zip(widths, own, strict=True):
            if len(groups):
                flat = grouped[:, groups].flatten(1)
                width.fit(groups, flat, energies[0, groups].flatten(), self.clips)
        return widths

    def _group(self, weight: Tensor) -> Tensor:
        """Return the group of each column, (in,), on the CPU."""
        return torch.arange(weight.shape[1]) // self.group_size


def _assignments(ranking: Tensor) -> Tensor:  # (candidates, groups) uint8
    """Return the part of each group, with more and more groups moved down and up."""
    most = len(ranking) // 2
    counts = sorted({most * step // TRIES for step in range(TRIES + 1)})
    parts = ranking.new_full((len(counts), len(ranking)), AVERAGE, dtype=torch.uint8)
    for part, count in zip(parts, counts, strict=True):
        part[ranking[:count]] = 0
        part[ranking[len(ranking) - count :]] = 2
    return parts


def _levels(widths: list[Width], part: Tensor, column: Tensor) -> Levels:
    """Return the levels of each group at the width of its part."""
    each = [width.even() for width in widths]
    choose = part.long()[None, None].expand(1, len(widths[0].scale), -1)
    scale, zero = (torch.stack(both).gather(0, choose)[0] for both in zip(*each, strict=True))
    tops = torch.tensor([float(width.grid.levels) for width in widths], device=part.device)
    return Levels(scale.T.contiguous(), zero.T.contiguous(), tops[part.long()], column)


def _repeated(levels: Levels, times: int) -> Levels:
    """Return the same levels for so many copies of the rows, one after another."""
    scale, zero = (each.repeat(1, times) for each in (levels.scale, levels.zero))
    return replace(levels, scale=scale, zero=zero)


def _by_salience(weight: Tensor, hessian: Hessian, group_size: int) -> Tensor:
    """Return the groups of columns, the least salient first."""
    column = weight.square().sum(0) * hessian.in_place(hessian.pivots)
    return column.view(-1, group_size).sum(1).argsort(stable=True)
