"""What the linears of a quantized folder stand for: the base's, with the factors that are folded.

A method may divide the inputs of linears by factors and multiply the weights' columns by them
(AWQ, SmoothQuant), and a correction has to be of that product. Behind a norm the factor is the
base's norm over the folder's, exactly, since methods snap it so that the divided norm is stored
without rounding. Between two linears W1 and W2 nothing exact is left of it. But whatever the f, the
model is the base's where the two stand for W1 / f and W2 f: so one is taken by which what the file
holds of both lies close to that. Rounding shrinks rows and columns alike, on average, which the
mean of what either says of f leaves out. A bias of W1, which no correction changes, was divided
too, and where there is one it says f itself.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from hubq.methods import Writer
from hubq.sources.architecture import Family, InputGroup
from hubq.sources.shards import Weights
from hubq.stages.quantize.block import Reader


class FoldedFactors:
    """The factors of one block's linears, and by them what these stand for."""

    def __init__(
        self,
        block: str,
        family: Family,
        base: Weights,
        quantized: Reader,
        folds: Collection[Writer],
    ) -> None:
        """Look at a block of a folder that a method with these folds has quantized."""
        self.block, self.base, self.quantized = block, base, quantized
        self.columns: dict[str, Tensor] = {}  # (in,), by linear
        self.rows: dict[str, Tensor] = {}  # (out,), by linear
        for group in family.groups:
            if group.writer_is_norm:
                self.columns |= dict.fromkeys(group.linears, self._of_norm(group.writer))
        for group in family.groups:
            if not group.writer_is_norm and "linear" in folds:
                self._share(group)

    def weight(self, linear: str) -> Tensor:
        """Return what a linear stands for, (out, in) float32."""
        weight = self._read(self.base, f"{linear}.weight")
        if linear in self.columns:
            weight = weight * self.columns[linear]
        return weight * self.rows[linear][:, None] if linear in self.rows else weight

    def _of_norm(self, norm: str) -> Tensor:
        before, after = (self._read(each, f"{norm}.weight") for each in (self.base, self.quantized))
        return torch.where(after == 0, torch.ones_like(after), before / after)

    def _share(self, group: InputGroup) -> None:
        """Find the factor between a linear and the one that writes its inputs."""
        (last,), writer = group.linears, group.writer
        before, after = self.weight(writer), self.weight(last)
        if len(before) != after.shape[1]:
            return  # v writes fewer channels than o reads: grouped-query attention
        shrunk = _projection(self._read(self.quantized, f"{writer}.weight"), before, 1)
        grown = _projection(self._read(self.quantized, f"{last}.weight"), after, 0)
        factor = _mean_factor(shrunk.reciprocal(), grown)
        if f"{self.block}.{writer}.bias" in self.base.info:
            own, divided = (
                self._read(each, f"{writer}.bias") for each in (self.base, self.quantized)
            )
            factor = torch.where((own != 0) & (divided != 0), own / divided, factor)
        self.columns[last], self.rows[writer] = factor, factor.reciprocal()

    def _read(self, folder: Reader, name: str) -> Tensor:
        return folder.read(f"{self.block}.{name}").float()


def _projection(rounded: Tensor, weight: Tensor, dim: int) -> Tensor:
    """Return by how much each row, or column, of a weight comes closest to its rounding."""
    return (rounded * weight).sum(dim) / weight.square().sum(dim)


def _mean_factor(*found: Tensor) -> Tensor:
    """Return the geometric mean of what is positive and finite, else 1."""
    logs = torch.stack(found).log()
    logs = torch.where(logs.isfinite(), logs, torch.nan)
    return logs.nanmean(0).nan_to_num(0.0).exp()
