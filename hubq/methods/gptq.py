"""GPTQ: round column by column and let the columns to come make up for each error.

Frantar et al. 2023. The paper's Hessian is 2 XᵀX; the factor cancels. In activation order the
columns with the most energy are rounded first, while the others can still make up for them; the
groups are fitted beforehand and stay where they are ("static"), so nothing of the order is stored.

Beyond the paper, whose grids span the whole range: each group's range is clipped where that loses
less of the output (hubq/clipping.py); on SmolLM2 that took the perplexity on XSum from 30.7 to 29.0
at 4 bits and from 50.7 to 42.5 at 3. `clips: 0` is the paper's way.
"""

from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hubq.clipping import search_reach
from hubq.kernels import round_columns
from hubq.method import AffineMethod, Group, Layer, Need
from hubq.solver import factorize, solve
from hubq.tensors import PER_CHANNEL, Affine, Grid, Reach


class GPTQ(AffineMethod):
    """Error-compensating rounding, by default in the order of activation energy."""

    title: ClassVar[str] = "GPTQ"
    paper: ClassVar[str] = "https://arxiv.org/abs/2210.17323"
    bibtex: ClassVar[str] = """@inproceedings{frantar2023gptq,
  title = {{GPTQ}: Accurate Post-Training Quantization for Generative Pre-trained Transformers},
  author = {Frantar, Elias and Ashkboos, Saleh and Hoefler, Torsten and Alistarh, Dan},
  booktitle = {International Conference on Learning Representations},
  year = {2023}
}"""
    needs: ClassVar[frozenset[Need]] = frozenset({"gram"})

    damping: float = Field(0.01, gt=0, description="of the mean diagonal, added to the Hessian")
    activation_order: bool = Field(
        True, description="solve in the order of the Hessian's diagonal; groups stay in place"
    )
    clips: int = Field(
        10, ge=0, le=19, description="how many clips of a group's range are tried, 5 % apart"
    )

    def quantize(self, layer: Layer) -> Affine:
        """Solve one layer."""
        return self.quantize_group(Group((layer,)))[0]

    def quantize_group(self, group: Group) -> tuple[Affine, ...]:
        """Solve layers with one Hessian together: rows are independent, so they are stacked."""
        first = group.layers[0]
        weight = torch.cat([layer.weight for layer in group.layers])
        solved = self._solve(replace(first, weight=weight))
        return solved.split([len(layer.weight) for layer in group.layers])

    def _solve(self, layer: Layer) -> Affine:
        assert layer.inputs.gram is not None
        weight, gram, grid = layer.weight, layer.inputs.gram.clone(), self.grid(layer.scale_dtype)
        dead = gram.diagonal() == 0  # inputs that no token ever used
        gram.diagonal()[dead] = 1
        weight = weight.masked_fill(dead, 0)
        order = torch.arange(len(gram), device=gram.device)
        if self.activation_order:
            order = gram.diagonal().argsort(descending=True, stable=True)
        factor, damping = factorize(gram, order, self.damping, layer.name)
        reach = search_reach(weight, gram.diagonal(), grid, self.clips)
        work = _Work(weight, grid, order, reach)
        if self.activation_order or grid.groups(len(order)) == 1:
            solve(work.weight, factor, work.round_block)
        else:
            solve(work.weight, factor, work.fit_and_round_block, grid.width(len(order)))
        facts = {"damping": damping} if damping != self.damping else {}
        return replace(work.result(), facts=facts)


class _Work:
    """A weight on its way, transposed: columns and their codes in solving order."""

    def __init__(self, weight: Tensor, grid: Grid, order: Tensor, reach: Reach) -> None:
        self.grid = grid
        self.order = order  # (in,): the place of each permuted column in the layer
        self.group = order // grid.width(len(order))  # (in,): the group of each permuted column
        self.reach = reach  # the parts of each group's range that are covered
        scale, zero = grid.span(weight, reach)
        self.scale = scale.float().T.contiguous()  # (groups, out), rounded to what the file stores
        self.zero = zero.T.contiguous()  # (groups, out)
        self.weight = weight.T[order]  # (in, out)
        self.codes = torch.empty(self.weight.shape, dtype=torch.uint8, device=weight.device)

    def round_block(self, columns: slice, moved: Tensor, feedback: Tensor) -> Tensor:
        """Round a block on the grids as they stand."""
        grid = (self.scale, self.zero, self.group[columns])
        self.codes[columns], errors = round_columns(
            self.weight[columns], moved, feedback, grid, self.grid.levels
        )
        return errors

    def fit_and_round_block(self, columns: slice, moved: Tensor, feedback: Tensor) -> Tensor:
        """Fit the block's one group to the weights as the errors so far have moved them."""
        group = self.group[columns.start]
        rows = replace(self.grid, group_size=PER_CHANNEL)
        low, high = self.reach
        scale, zero = rows.span(moved.T, (low[:, group, None], high[:, group, None]))
        self.scale[group], self.zero[group] = scale[:, 0].float(), zero[:, 0]
        return self.round_block(columns, moved, feedback)

    def result(self) -> Affine:
        """Return the codes in their places."""
        return Affine(
            codes=self.codes[self.order.argsort()].T.contiguous(),
            scale=self.scale.T.contiguous().to(self.grid.scale_dtype),
            zero=None if self.grid.symmetric else self.zero.T.contiguous().to(torch.uint8),
            bits=self.grid.bits,
            group_size=self.grid.width(len(self.order)),
        )
