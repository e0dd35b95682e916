"""AWQ: scale up the input channels that carry large activations, then clip, then round.

Lin et al. 2023. A channel's factor is its mean activation magnitude to a power between 0 and 1;
the power is searched, then a clip for each group. Both searches minimise the squared error of the
layers' outputs on the calibration tokens, which for an error E of the weight is tr(E G Eᵀ) with
G = XᵀX: no pass over the tokens is needed.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hubq.methods import AffineMethod, Group, Holds, Layer, Need, Writer
from hubq.methods.solvers.clipping import search_clipping_range
from hubq.tensors import Affine
from hubq.tensors.gram import factors_in, output_energy

# All rows of a group share the power and the loss is a sum over them: so many of each layer, evenly
# spaced, find the same power.
SEARCHED_ROWS = 256


class AWQ(AffineMethod):
    """Activation-aware scaling and clipping before rounding."""

    title: ClassVar[str] = "AWQ"
    paper: ClassVar[str] = "https://arxiv.org/abs/2306.00978"
    bibtex: ClassVar[str] = """@inproceedings{lin2024awq,
  title = {{AWQ}: Activation-aware Weight Quantization for On-Device {LLM} Compression},
  author = {Lin, Ji and Tang, Jiaming and Tang, Haotian and Yang, Shang and others},
  booktitle = {Proceedings of Machine Learning and Systems},
  year = {2024}
}"""
    needs: ClassVar[frozenset[Need]] = frozenset({"gram", "magnitude"})
    folds: ClassVar[frozenset[Writer]] = frozenset({"norm", "linear"})
    holds: ClassVar[Holds] = Holds(weights=6.5, grams=1)
    rows_are_independent: ClassVar[bool] = True

    powers: int = Field(20, ge=1, description="how many exponents from 0 to 1 are tried")
    clips: int = Field(10, ge=0, le=19, description="how many clipped ranges are tried, 5 % apart")

    def scale(self, group: Group) -> Tensor:
        """Search the power of the mean magnitude that loses least of the group's outputs."""
        magnitude = group.inputs.mean_magnitude
        assert magnitude is not None
        powers = [step / self.powers for step in range(self.powers)]
        candidates = [group.snap(_factor(magnitude, power)) for power in powers]
        with factors_in(group.inputs.dtype):
            losses = torch.stack([self._loss(group, factor) for factor in candidates])
        return candidates[int(losses.argmin())]

    def _loss(self, group: Group, factor: Tensor) -> Tensor:
        gram = group.inputs.gram
        assert gram is not None
        total = gram.new_zeros(())
        for layer in group.layers:
            grid = self.grid(layer.scale_dtype)
            weight = layer.weight[:: -(-len(layer.weight) // SEARCHED_ROWS)]
            scaled = weight * factor
            error = grid.error(scaled, *grid.span(scaled)).flatten(1)[:, : weight.shape[1]]
            total += output_energy(error / factor, gram)
        return total

    def quantize(self, layer: Layer) -> Affine:
        """Search a clip for each group and round."""
        assert layer.inputs.gram is not None
        grid = self.grid(layer.scale_dtype)
        gram = layer.inputs.gram
        with factors_in(layer.inputs.dtype):
            clipping = search_clipping_range(layer.weight, gram, grid, self.clips, each_side=True)
        return self.with_inputs(Affine.fit(layer.weight, grid, clipping))


def _factor(magnitude: Tensor, power: float) -> Tensor:  # (in,)
    factor = magnitude.pow(power).clamp(min=1e-4)
    return factor / (factor.max() * factor.min()).sqrt()
