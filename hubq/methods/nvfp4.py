"""NVFP4: floats of 4 bits, in groups of 16 with scales of 8 bits below one global scale.

NVIDIA's format for Blackwell (Abecassis et al. 2025, section 2 and appendix B). The global scale
lets the greatest group of a matrix have the greatest e4m3 as its scale. Engines compute q, k and v,
and gate and up, as one matrix with one global scale, so those share theirs here.

A group's scale needn't stretch its greatest weight to the 6, the greatest element: between 4 and 6
there is nothing, and it may lose less to stretch it to the 4 (Cook et al. 2025, "Four Over Six").
The search tries all e4m3 from two below the usual scale to six above, where that one lies.
"""

from typing import ClassVar

import torch
from torch import Tensor

from hubq.machine.engines import ElementType
from hubq.methods import Group, Inputs, Layer
from hubq.methods.solvers.floats import FourBitFloats, greatest_of_groups, search_scales
from hubq.tensors import Floating
from hubq.tensors.floating import E2M1, E4M3, GREATEST

WIDTH = 16
RANGE = GREATEST[E4M3] * GREATEST[E2M1]  # of a weight over the global scale
NEAR = (0, -1, 1, -2, 2, 3, 4, 5, 6)  # e4m3 above a scale; the first is the usual one
LEAST = 1e-30  # of what a scale is made for: an unused matrix has one too


class NVFP4(FourBitFloats):
    """Round to floats of 4 bits in groups of 16, with a scale of 8 bits each."""

    width: ClassVar[int] = WIDTH
    title: ClassVar[str] = "NVFP4"
    element_type: ClassVar[ElementType] = "nvfp4"
    paper: ClassVar[str] = "https://arxiv.org/abs/2509.25149"
    bibtex: ClassVar[str] = """@misc{abecassis2025nvfp4,
  title = {Pretraining Large Language Models with {NVFP4}},
  author = {Abecassis, Felix and Agrusa, Anjulie and Ahn, Dong and Alben, Jonah and others},
  year = {2025},
  eprint = {2509.25149},
  archivePrefix = {arXiv}
}"""

    @property
    def calibrates_inputs(self) -> bool:
        """Whether inputs have a global scale."""
        return self.activations == 4

    def sketch(self, shape: tuple[int, int], scale_dtype: torch.dtype) -> Floating:
        """Return the floats without data."""
        one = torch.empty(1, device="meta")
        return self._of(shape, one, Inputs(tokens=0))

    def shared(self, group: Group) -> Floating:
        """Return the global scale of all layers: in engines they are one matrix."""
        greatest = torch.stack([_greatest(each.weight) for each in group.all_layers]).amax()
        return self._of((0, WIDTH), _global_scale(greatest), group.inputs)

    def scaled(self, layer: Layer, energy: Tensor | None, shared: Floating | None) -> Floating:
        """Let the greatest of each group be 6, or what loses least near that."""
        assert shared is not None
        assert shared.divisor is not None
        out, columns = layer.weight.shape
        found = self._of((out, columns), shared.divisor, layer.inputs)
        usual = greatest_of_groups(layer.weight, WIDTH) * (shared.divisor / GREATEST[E2M1])
        stored = usual.clamp_(0, GREATEST[E4M3]).to(E4M3).view(torch.uint8).clamp_(min=1)
        if self.search:
            stored = search_scales(layer.weight, stored, found, energy, NEAR)
        found.scale.copy_(stored.view(E4M3))
        return found

    def _of(self, shape: tuple[int, int], divisor: Tensor, inputs: Inputs) -> Floating:
        out, columns = shape
        greatest = inputs.max_magnitude
        of_inputs = torch.ones_like(divisor) if greatest is None else _global_scale(greatest.amax())
        return Floating(
            torch.empty(shape, dtype=E2M1, device=divisor.device),
            torch.empty(out, columns // WIDTH, dtype=E4M3, device=divisor.device),
            (1, WIDTH),
            divisor,
            rounds_inputs=self.calibrates_inputs,
            input_scale=of_inputs if self.calibrates_inputs else None,
        )


def _greatest(weight: Tensor) -> Tensor:  # ()
    return torch.maximum(weight.amax(), -weight.amin()).float()


def _global_scale(greatest: Tensor) -> Tensor:  # () -> (1,)
    """Return what the scales of groups are divided by, so that the greatest of them is 448."""
    return (RANGE / greatest.clamp(min=LEAST)).reshape(1)
