"""PB-LLM: keep the few weights that matter most at 8 bits and binarize the rest.

Shang et al. 2024. In each group of columns a fraction of the weights is kept on an 8-bit grid that
its row shares; each row of a group rounds the others to two levels, mean - scale and mean + scale
(section 3.2). All are solved in one pass as GPTQ does (section 3.3).

Beyond the paper, each because it measured better on two texts. Perplexities are of SmolLM2 with a
seventh kept, on XSum and BoolQ; the published code gives 662 on XSum.
- Levels are the best two for the weights that are not kept, weighted by the inputs' energy, where
  the code counts kept weights as zeros in a plain mean. Columns are solved in activation order,
  and the mask and the 8-bit grid are fitted beforehand: 215 and 180 together.
- Levels are fitted when their group's turn comes, to where the errors before have moved it; groups
  stay together in the order for that: 169 and 139.
- What is kept is not what is salient by w² / [H⁻¹]² but what binarization would lose most of: a
  weight that lies on a level needs no 8 bits, however large: 154 and 123.
- That loss is weighted by the inputs' energy, then levels and codes are fitted once more, each to
  the others as they are: 132 and 105. `rounds: 0` leaves this out.

Means and scales take 6 bits: against 16 the layers' outputs lose 0.8 % more.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hubq.methods import Group, Holds, Layer, ragged
from hubq.methods.solvers.binarization import BinaryMethod, Pair, fit_pair, improve_pair
from hubq.methods.solvers.column_solver import DampedRows, Hessian, Rounding
from hubq.tensors import SMALLEST_SCALE, Affine, Binary, Grid, Masked
from hubq.tensors.kernels.column_rounding import Exceptions, Levels

KEPT_BITS = 8
CHOICES = 3  # of what is kept: each moves the levels of the rest, and they what loses most


class PBLLM(BinaryMethod):
    """Partial binarization: a fraction of the weights at 8 bits, the others as signs."""

    title: ClassVar[str] = "PB-LLM"
    paper: ClassVar[str] = "https://arxiv.org/abs/2310.00034"
    bibtex: ClassVar[str] = """@inproceedings{shang2024pbllm,
  title = {{PB-LLM}: Partially Binarized Large Language Models},
  author = {Shang, Yuzhang and Yuan, Zhihang and Wu, Qiang and Dong, Zhen},
  booktitle = {International Conference on Learning Representations},
  year = {2024}
}"""
    holds: ClassVar[Holds] = Holds(weights=10.5)

    fraction: float = Field(
        1 / 7, gt=0, lt=1, description="fraction of the weights that is kept at 8 bits"
    )

    @property
    def nominal_bits(self) -> float:
        """8 bits for what is kept and one for the rest; the paper's figure without the bitmap."""
        return 1 + (KEPT_BITS - 1) * self.fraction

    def why_unsupported(self, shape: tuple[int, int]) -> str | None:
        """Refuse a group size that leaves a ragged group, and say which sizes fit."""
        return ragged(self.group_size, shape[1])

    def sketch(self, shape: tuple[int, int], scale_dtype: torch.dtype) -> Masked:
        """Return a tensor in which a fraction of each group of columns is kept."""
        out, columns = shape
        levels = Affine.sketch(
            (out, columns // self.group_size), Grid(self.scale_bits, scale_dtype=scale_dtype)
        )
        flags = torch.empty(shape, dtype=torch.bool, device="meta")
        return Masked(
            mask=flags,
            chosen=Affine.sketch(shape, Grid(KEPT_BITS, scale_dtype=scale_dtype)),
            rest=Binary(flags[None], (levels,), levels, self.group_size),
            count=self._kept(out) * (columns // self.group_size),
        )

    def _kept(self, out: int) -> int:
        """Return how many weights of a group of columns are kept."""
        return round(self.fraction * out * self.group_size)

    def quantize(self, layer: Layer) -> Masked:
        """Solve one layer."""
        return self.quantize_group(Group((layer,)))[0]

    def quantize_group(self, group: Group) -> tuple[Masked, ...]:
        """Solve each layer by the one Hessian that all share."""
        hessian, gram = self.prepared(group)
        return tuple(self._solve(layer, hessian, gram) for layer in group.layers)

    def _solve(self, layer: Layer, hessian: Hessian, gram: DampedRows) -> Masked:
        weight = layer.weight.masked_fill(hessian.unused, 0)
        mask = self._choose(weight, hessian.energy)
        kept = Grid(KEPT_BITS, scale_dtype=layer.scale_dtype)
        scale, zero = kept.span(weight.masked_fill(~mask, 0))
        column = torch.arange(weight.shape[1])
        exceptions = (mask, Levels.of(scale, zero, kept.levels, torch.zeros_like(column)))
        partial = _Partial(hessian, weight, exceptions, self.group_size)
        partial.rounding.solve(partial.fit, self.group_size)
        for _ in range(self.rounds):
            partial.rounding.refine(gram, partial.refit, self.group_size)
        mean, levels = partial.store(Grid(self.scale_bits, scale_dtype=layer.scale_dtype))
        codes = partial.rounding.refine(gram, None, self.group_size)
        return Masked(
            mask=mask,
            chosen=Affine(
                codes=codes.masked_fill(~mask, 0),
                scale=scale,
                zero=zero.to(torch.uint8),
                bits=KEPT_BITS,
                group_size=weight.shape[1],
            ),
            rest=Binary(
                signs=(codes.bool() & ~mask)[None],
                scale=(levels,),
                mean=mean,
                group_size=self.group_size,
            ),
            count=int(mask.sum()),
            facts=hessian.facts,
        )

    def _choose(self, weight: Tensor, energy: Tensor) -> Tensor:  # (out, in) bool
        """Mark the weights whose binarization would lose most; what is left moves the levels."""
        grid = Grid(1, self.group_size)
        grouped, energies = grid.grouped(weight), grid.grouped(energy[None])[0]
        count = self._kept(len(weight))
        mask = torch.zeros(grouped.shape, dtype=torch.bool, device=weight.device)
        for _ in range(CHOICES):
            pair = fit_pair(grouped, energies, mask)
            distance = (grouped - pair.mean[..., None]).abs_().sub_(pair.scale[..., None])
            lost = distance.square_().mul_(energies).transpose(0, 1).flatten(1)
            most = lost.topk(count, dim=1, sorted=False).indices
            flat = torch.zeros(lost.shape, dtype=torch.bool, device=weight.device)
            flat.scatter_(1, most, value=True)
            mask = flat.view(-1, len(weight), self.group_size).transpose(0, 1)
        return mask.flatten(1)


class _Partial:
    """A layer on its way to 8 bits here and two levels there."""

    def __init__(
        self, hessian: Hessian, weight: Tensor, exceptions: Exceptions, group_size: int
    ) -> None:
        group = torch.arange(weight.shape[1]) // group_size
        unset = torch.zeros(len(weight), int(group[-1]) + 1, device=weight.device)
        self.rounding = Rounding(
            hessian, weight, Levels.of(unset, unset.clone(), 1, group), exceptions
        )
        self.energy = hessian.energy[hessian.order]
        self.without = exceptions[0].T[hessian.order]  # (in, out) bool: what is not binarized
        self.pair = Pair(unset.T.clone(), unset.T.clone())  # (groups, out)

    def fit(self, here: slice, foreseen: Tensor) -> None:
        """Fit a group's two levels to its weights as the errors so far move them."""
        without = self.without[here].T[:, None]
        pair = fit_pair(foreseen.T[:, None], self.energy[None, here], without)
        self._put(self._group(here), pair.mean.T, pair.scale.T)

    def refit(self, here: slice, gradient: Tensor, own: Tensor) -> Tensor:
        """Give a group the two levels that lose least of the output, its signs as they are."""
        group, used = self._group(here), (~self.without[here]).float()
        change = improve_pair(self._signs(here), used, gradient, own)
        self._put(group, self.pair.mean[group] + change.mean, self.pair.scale[group] + change.scale)
        return self._errors(here)

    def store(self, grid: Grid) -> tuple[Affine, Affine]:
        """Round the means and the scales to what the file holds, and return them, (out, groups)."""
        mean, scale = (Affine.fit(each.T, grid) for each in (self.pair.mean, self.pair.scale))
        self._put(slice(None), mean.dequantize().T, scale.dequantize().T)
        self.rounding.errors = self._errors(slice(None))
        return mean, scale

    def _group(self, here: slice) -> slice:
        group = int(self.rounding.levels.group[here.start])
        return slice(group, group + 1)

    def _put(self, groups: slice, mean: Tensor, scale: Tensor) -> None:
        self.pair.mean[groups], self.pair.scale[groups] = mean, scale.clamp(min=SMALLEST_SCALE)
        levels = self.rounding.levels
        levels.scale[groups], levels.zero[groups] = Pair(mean, scale).even()

    def _signs(self, here: slice) -> Tensor:
        return self.rounding.codes[here].float().mul_(2).sub_(1)

    def _errors(self, here: slice) -> Tensor:
        """Return the errors with the levels as they stand."""
        group = self.rounding.levels.group[here]
        rounded = self.pair.mean[group] + self._signs(here) * self.pair.scale[group]
        errors = self.rounding.columns[here] - rounded
        return torch.where(self.without[here], self.rounding.errors[here], errors)
