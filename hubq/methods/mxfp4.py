"""MXFP4: floats of 4 bits, in groups of 32 with a power of two for a scale.

OCP Microscaling Formats 1.0 (Rouhani et al. 2023). The usual scale is the power of two by which the
greatest weight of a group comes to lie between 3.5 and 7; what lies above 6 is clipped to it. So a
group may lose up to a bit of its levels. The search also tries the powers beside it.
"""

from typing import ClassVar

import torch
from torch import Tensor

from hubq.machine.engines import ElementType
from hubq.methods import Layer
from hubq.methods.solvers.floats import FourBitFloats, greatest_of_groups, search_scales
from hubq.tensors import Floating
from hubq.tensors.floating import BIAS, E2M1

WIDTH = 32
NEAR = (0, -1, 1)  # exponents above the usual one
CLIPS = 7 / 4  # of the greatest weight, over the power of two below it: from here the next one


class MXFP4(FourBitFloats):
    """Round to floats of 4 bits in groups of 32, with a power of two each."""

    width: ClassVar[int] = WIDTH
    title: ClassVar[str] = "MXFP4"
    element_type: ClassVar[ElementType] = "mxfp4"
    paper: ClassVar[str] = "https://arxiv.org/abs/2310.10537"
    bibtex: ClassVar[str] = """@misc{rouhani2023microscaling,
  title = {Microscaling Data Formats for Deep Learning},
  author = {Rouhani, Bita Darvish and Zhao, Ritchie and More, Ankit and Hall, Mathew and others},
  year = {2023},
  eprint = {2310.10537},
  archivePrefix = {arXiv}
}"""

    def sketch(self, shape: tuple[int, int], scale_dtype: torch.dtype) -> Floating:
        """Return the floats without data."""
        return self._of(shape, torch.device("meta"))

    def scaled(self, layer: Layer, energy: Tensor | None, shared: Floating | None) -> Floating:
        """Let the greatest of each group be from 3.5 to 7, or what loses least near that."""
        out, columns = layer.weight.shape
        found = self._of((out, columns), layer.weight.device)
        stored = _exponents(greatest_of_groups(layer.weight, WIDTH))
        if self.search:
            stored = search_scales(layer.weight, stored, found, energy, NEAR)
        found.scale.copy_(stored)
        return found

    def _of(self, shape: tuple[int, int], device: torch.device) -> Floating:
        out, columns = shape
        return Floating(
            torch.empty(shape, dtype=E2M1, device=device),
            torch.empty(out, columns // WIDTH, dtype=torch.uint8, device=device),
            (1, WIDTH),
            rounds_inputs=self.activations == 4,
        )


def _exponents(greatest: Tensor) -> Tensor:  # float32 -> uint8
    """Return the exponents of e8m0 that groups with these greatest magnitudes have usually.

    That is compressed-tensors' rule; a group of zeros has the power 1.
    """
    mantissa, power = torch.frexp(greatest)  # mantissa from 0.5 to 1
    usual = power - 1 + (2 * mantissa >= CLIPS).int() - 2 + BIAS
    return usual.masked_fill(greatest == 0, BIAS).clamp_(1, 254).to(torch.uint8)
