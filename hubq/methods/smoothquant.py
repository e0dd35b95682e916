"""SmoothQuant: move outliers from the activations into the weights, then round both.

Xiao et al. 2023. A few input channels carry activations so large that a token's other channels get
no levels. Dividing each channel of the input by a factor and multiplying the weights' column by it
changes nothing of the product: s_j = max|X_j|^alpha / max|W_j|^(1 - alpha) (equation 4). The norm
before the linears takes the division, so it costs nothing at run time, and only the groups behind
a norm are smoothed, as in the authors' code. Weights are then rounded symmetrically by output
channel, and the engine rounds each token's inputs symmetrically as they arrive.

Departures from the authors' code. Factors are snapped to those that the stored norm is divided by
exactly. Their evaluation also rounds what q, k and v put out, for a product of integers in the
attention; here, as in every engine that loads the result, only the linears' inputs are rounded.
Maxima are those of the tokens that come through the already quantized blocks. A grid has all 2^bits
levels, where theirs leaves the lowest out. On SmolLM2 the exported folder in plain transformers has
a perplexity of 26.35 on XSum at 8 bits, 31.9 at 6 and 1,768 at 4; their code, which rounds more,
has 26.36, 32.9 and 4,290, and the model itself 25.98.
"""

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hubq.methods import Group, Holds, Layer, Method, Need, Writer
from hubq.tensors import PER_CHANNEL, Affine, Grid

SMALLEST = 1e-5  # of a column's weights and of a factor, as in the authors' code


class SmoothQuant(Method):
    """Smooth the activations' outliers into the weights, and round both."""

    title: ClassVar[str] = "SmoothQuant"
    paper: ClassVar[str] = "https://arxiv.org/abs/2211.10438"
    bibtex: ClassVar[str] = """@inproceedings{xiao2023smoothquant,
  title = {{SmoothQuant}: Accurate and Efficient Post-Training Quantization for
           Large Language Models},
  author = {Xiao, Guangxuan and Lin, Ji and Seznec, Mickael and Wu, Hao and Demouth, Julien and
            Han, Song},
  booktitle = {International Conference on Machine Learning},
  year = {2023}
}"""
    needs: ClassVar[frozenset[Need]] = frozenset({"magnitude"})
    folds: ClassVar[frozenset[Writer]] = frozenset({"norm"})
    holds: ClassVar[Holds] = Holds(weights=2.8, grams=0)
    rows_are_independent: ClassVar[bool] = True
    # What a head beside such linears is rounded with; no options.
    group_size: ClassVar[int] = PER_CHANNEL
    symmetric: ClassVar[bool] = True

    bits: Literal[4, 6, 8] = Field(8, description="bits of the weights and of the activations")
    alpha: float = Field(
        0.85,
        ge=0,
        le=1,
        description="how much of the outliers moves into the weights: 0 none, 1 all",
    )

    @property
    def nominal_bits(self) -> float:
        """The width of the weights, which is that of the activations."""
        return float(self.bits)

    @property
    def activation_bits(self) -> int:
        """The width of each token's inputs."""
        return self.bits

    def scale(self, group: Group) -> Tensor:
        """Return each channel's greatest input to alpha, over its greatest weight to the rest."""
        greatest = group.inputs.max_magnitude
        assert greatest is not None
        weight = torch.stack([layer.weight.abs().amax(0) for layer in group.layers]).amax(0)
        factor = greatest.pow(self.alpha) / weight.clamp(min=SMALLEST).pow(1 - self.alpha)
        unused = greatest == 0  # no token used these channels: leave them as they are
        return group.snap(factor.clamp(min=SMALLEST).masked_fill(unused, 1))

    def quantize(self, layer: Layer) -> Affine:
        """Round each output channel to its own grid."""
        return self._with_activations(Affine.fit(layer.weight, self._grid(layer.scale_dtype)))

    def sketch(self, shape: tuple[int, int], scale_dtype: torch.dtype) -> Affine:
        """Return the affine tensor without data."""
        return self._with_activations(Affine.sketch(shape, self._grid(scale_dtype)))

    def _grid(self, scale_dtype: torch.dtype) -> Grid:
        return Grid(self.bits, self.group_size, self.symmetric, scale_dtype)

    def _with_activations(self, tensor: Affine) -> Affine:
        return replace(tensor, activation_bits=self.bits)
