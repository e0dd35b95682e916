"""BiLLM: every weight as two signs; salient columns, and small and large weights, apart.

Huang et al. 2024, section 3. Group by group of columns: the columns that matter most, as many as
lose least, are binarized twice, the rest of their error again (residual approximation); the others
are split by magnitude at the best break-point into two sets that are binarized each on its own.
Both make four levels of the form mean ± larger ± smaller, so that all is one `Binary` of two
planes, in which the salient columns have levels of their own. The paper's 1.1 bits leave out which
weights are small, one more sign, and all scales.

Where this departs from the paper, measured on SmolLM2 in groups of 64, perplexity on XSum / BoolQ,
against 1044 on XSum by the authors' code:

- Having the same form, residuals are fitted as a split too, by the exact best of all break-points
  instead of 81 percentiles; squared errors are weighted by each input's energy. The break-point is
  on |w - mean|; the authors' code searches on salience.
- Errors are passed on column by column, also inside a group; the groups, and the columns within,
  come in the order of their energy (98.7 / 85.1 with 16-bit scales and no means, against 104.4 /
  88.0 in activation order with levels fitted beforehand). Salience is w² times the energy, and the
  number of salient columns is searched on some of the rows.
- After the column loop the levels are fitted again to the signs by least squares under the Gram
  matrix, and the signs to the levels by coordinate descent: 96.1 / 84.9 without, 89.2 / 81.4 with
  one round. The default is two rounds.
- Scales and means are codes of 6 bits under one 16-bit scale a row, and the last signs are chosen
  with these. In a series with other weights than the energy 4, 6 and 8 bits gave 102.1 / 94.1,
  97.8 / 87.9 and 97.0 / 85.3 at 2.40, 2.59 and 2.79 bits in all; leaving the means out gave 108.9
  / 100.1 at 2.37 bits.
- That series weighed errors by what they cost once later columns have made up for them, with levels
  fitted to where columns will be. It loses less of each layer's output (2.2 against 2.3 % with the
  energy and one round), and yet more of the perplexity: 105.9 / 95.7 against 96.1 / 84.9 without
  rounds. So neither is done.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hubq.methods import Group, Holds, Layer
from hubq.methods.solvers.binarization import BinaryMethod
from hubq.methods.solvers.column_solver import DampedRows, Hessian, refine, solve
from hubq.methods.solvers.sign_planes import Planes
from hubq.tensors import Affine, Binary, Grid
from hubq.tensors.kernels.sign_planes import fit_levels

ROWS = 64  # of a layer, spread evenly, on which the number of salient columns is searched
COUNTS = 8  # numbers of salient columns that are tried, evenly spaced
SMALL = 0.665  # of SmolLM2's weights are below the break-point; a normal distribution has 0.67


class BiLLM(BinaryMethod):
    """Binarization in two planes of signs, with salient columns apart."""

    title: ClassVar[str] = "BiLLM"
    paper: ClassVar[str] = "https://arxiv.org/abs/2402.04291"
    bibtex: ClassVar[str] = """@inproceedings{huang2024billm,
  title = {{BiLLM}: Pushing the Limit of Post-Training Quantization for {LLM}s},
  author = {Huang, Wei and Liu, Yangdong and Qin, Haotong and Li, Ying and others},
  booktitle = {International Conference on Machine Learning},
  year = {2024}
}"""
    holds: ClassVar[Holds] = Holds(weights=8, block=39)

    most_salient: float = Field(
        0.4, gt=0, lt=1, description="the largest fraction of a group's columns to set apart"
    )
    means: bool = Field(True, description="store means with the scales")
    rounds: int = Field(
        2, ge=0, description="rounds of fitting scales and signs to each other again"
    )

    @property
    def nominal_bits(self) -> float:
        """The paper's figure: a bit, and one more for about a tenth that is salient.

        It leaves out which weights are small ones, a bit each, and all scales.
        """
        return 1.1

    def sketch(self, shape: tuple[int, int], scale_dtype: torch.dtype) -> Binary:
        """Return two planes in which so many weights are small as usual."""
        out, columns = shape
        groups = -(-columns // self.group_size)
        level = Affine.sketch((out, 2 * groups), Grid(self.scale_bits, scale_dtype=scale_dtype))
        return Binary(
            torch.empty(2, *shape, dtype=torch.bool, device="meta"),
            (level, level),
            level if self.means else None,
            min(self.group_size, columns),
            torch.empty(columns, dtype=torch.bool, device="meta"),
            changes=SMALL,
        )

    def quantize(self, layer: Layer) -> Binary:
        """Solve one layer."""
        return self.quantize_group(Group((layer,)))[0]

    def quantize_group(self, group: Group) -> tuple[Binary, ...]:
        """Solve each layer by the one Hessian that all share."""
        hessian, gram = self.prepared(group)
        return tuple(self._solve(layer, hessian, gram) for layer in group.layers)

    def _solve(self, layer: Layer, hessian: Hessian, gram: DampedRows) -> Binary:
        weight = layer.weight.masked_fill(hessian.unused, 0)
        apart = self._choose(weight, hessian.energy)
        planes = Planes(weight, hessian, apart, self.group_size, means=self.means)
        solve(planes.columns, hessian.factor, planes.fit_and_round, self.group_size)
        for _ in range(self.rounds):
            work = (planes.columns, planes.errors())
            refine(work, gram, planes.round, planes.refit, self.group_size)
        larger, smaller, *mean = planes.store(self.scale_bits, layer.scale_dtype)
        refine((planes.columns, planes.errors()), gram, planes.round, None, self.group_size)
        codes = hessian.rows(planes.codes)
        return Binary(
            signs=torch.stack([codes & 1, codes >> 1]).bool(),
            scale=(larger, smaller),
            mean=mean[0] if self.means else None,
            group_size=min(self.group_size, weight.shape[1]),
            apart=apart,
            facts={"salient columns": float(apart.float().mean()), **hessian.facts},
        )

    def _choose(self, weight: Tensor, energy: Tensor) -> Tensor:  # (in,) bool
        """Mark the most salient columns of each group, as many as lose least when set apart."""
        salience = weight.square().sum(0) * energy
        sample = weight[:: max(1, len(weight) // ROWS)]
        groups = zip(
            torch.split(sample, self.group_size, dim=1),
            torch.split(energy, self.group_size),
            torch.split(salience, self.group_size),
            strict=True,
        )
        return torch.cat([self._mark(*group) for group in groups])

    def _mark(self, weight: Tensor, energy: Tensor, salience: Tensor) -> Tensor:  # (width,) bool
        """Try several numbers of the most salient columns, apart from the rest."""
        place = salience.argsort(descending=True, stable=True).argsort()
        most = max(1, round(self.most_salient * len(place)))
        counts = sorted({-(-most * step // COUNTS) for step in range(1, COUNTS + 1)})
        losses = [
            fit_levels(weight, energy, place < count, means=self.means)[1].sum() for count in counts
        ]
        return place < counts[int(torch.stack(losses).argmin())]
