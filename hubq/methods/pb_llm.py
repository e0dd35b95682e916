"""PB-LLM: keep the few weights that matter most at 8 bits and binarize the rest.

Shang et al. 2024.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hubq.binarization import Pair, fit_pair
from hubq.kernels import Levels
from hubq.method import Group, Layer, Method, Need
from hubq.solver import Hessian, prepare, solve_on
from hubq.tensors import Affine, Binary, Grid, Masked

KEPT_BITS = 8


class PBLLM(Method):
    """Partial binarization: a fraction of the weights at 8 bits, the others as signs."""

    title: ClassVar[str] = "PB-LLM"
    paper: ClassVar[str] = "https://arxiv.org/abs/2310.00034"
    bibtex: ClassVar[str] = """@inproceedings{shang2024pbllm,
  title = {{PB-LLM}: Partially Binarized Large Language Models},
  author = {Shang, Yuzhang and Yuan, Zhihang and Wu, Qiang and Dong, Zhen},
  booktitle = {International Conference on Learning Representations},
  year = {2024}
}"""
    needs: ClassVar[frozenset[Need]] = frozenset({"gram"})

    fraction: float = Field(1 / 7, gt=0, lt=1, description="of the weights, kept at 8 bits")
    group_size: int = Field(128, ge=1, description="input columns that share a mean and a scale")
    damping: float = Field(0.01, gt=0, description="of the mean diagonal, added to the Hessian")
    activation_order: bool = Field(
        True, description="solve in the order of the Hessian's diagonal; groups stay in place"
    )

    @property
    def nominal_bits(self) -> float:
        """8 bits for what is kept and one for the rest; the paper's figure without the bitmap."""
        return 1 + (KEPT_BITS - 1) * self.fraction

    def mistake(self, shape: tuple[int, int]) -> str | None:
        """Refuse a group size that leaves a ragged group, and say which sizes fit."""
        columns = shape[1]
        if columns % self.group_size == 0:
            return None
        fitting = [str(size) for size in (32, 64, 128, 256) if columns % size == 0]
        way_out = f"use {' or '.join(fitting)}" if fitting else "use a divisor"
        return f"group_size {self.group_size} does not divide {columns} inputs; {way_out}"

    def sketch(self, shape: tuple[int, int], scale_dtype: torch.dtype) -> Masked:
        """Return a tensor in which a fraction of each group of columns is kept."""
        out, columns = shape
        groups = columns // self.group_size
        values = torch.empty(out, groups, dtype=scale_dtype, device="meta")
        flags = torch.empty(shape, dtype=torch.bool, device="meta")
        return Masked(
            mask=flags,
            chosen=Affine.sketch(shape, Grid(KEPT_BITS, scale_dtype=scale_dtype)),
            rest=Binary(flags[None], (values,), values, self.group_size),
            count=groups * self._kept(out),
        )

    def quantize(self, layer: Layer) -> Masked:
        """Solve one layer."""
        return self.quantize_group(Group((layer,)))[0]

    def quantize_group(self, group: Group) -> tuple[Masked, ...]:
        """Solve each layer by the one Hessian that all share."""
        hessian = prepare(
            group.inputs,
            self.damping,
            group.layers[0].name,
            activation_order=self.activation_order,
        )
        return tuple(self._solve(layer, hessian) for layer in group.layers)

    def _kept(self, out: int) -> int:
        """Return how many weights of a group of columns are kept."""
        return round(self.fraction * out * self.group_size)

    def _solve(self, layer: Layer, hessian: Hessian) -> Masked:
        weight = layer.weight.masked_fill(hessian.unused, 0)
        mask = self._choose(weight, hessian)
        fine = Grid(KEPT_BITS, scale_dtype=layer.scale_dtype)
        scale, zero = fine.span(weight.masked_fill(~mask, 0))
        pair = self._fit(weight, hessian.energy, mask, layer.scale_dtype)
        column = torch.arange(weight.shape[1]) // self.group_size
        rest = Levels.of(*pair.even(), 1, column)
        kept = Levels.of(scale, zero, fine.levels, torch.zeros_like(column))
        codes = solve_on(hessian, weight, rest, (mask, kept))
        return Masked(
            mask=mask,
            chosen=Affine(
                codes=codes.masked_fill(~mask, 0),
                scale=scale,
                zero=zero.to(torch.uint8),
                bits=KEPT_BITS,
                group_size=weight.shape[1],
            ),
            rest=Binary((codes.bool() & ~mask)[None], (pair.scale,), pair.mean, self.group_size),
            count=int(mask.sum()),
            facts=hessian.facts,
        )

    def _choose(self, weight: Tensor, hessian: Hessian) -> Tensor:  # (out, in) bool
        """Mark the most salient weights of each group of columns."""
        cost = hessian.in_place(hessian.pivots)
        salience = self._grouped(weight.square() * cost).transpose(0, 1).flatten(1)
        kept = salience.topk(self._kept(len(weight)), dim=1, sorted=False).indices
        mask = torch.zeros(salience.shape, dtype=torch.bool, device=weight.device)
        mask.scatter_(1, kept, value=True)
        return mask.unflatten(1, (len(weight), -1)).transpose(0, 1).flatten(1)

    def _fit(self, weight: Tensor, energy: Tensor, mask: Tensor, dtype: torch.dtype) -> Pair:
        """Find each row's and group's two levels for what is not kept."""
        grouped = self._grouped(weight)
        return fit_pair(grouped, self._grouped(energy[None])[0], self._grouped(mask), dtype)

    def _grouped(self, columns: Tensor) -> Tensor:
        """View (out, in) as (out, groups, width)."""
        return columns.unflatten(1, (-1, self.group_size))
