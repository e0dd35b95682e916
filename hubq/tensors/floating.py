"""Floats of 8 and 4 bits with scales: FP8, NVFP4 and MXFP4, as compressed-tensors holds them.

e4m3 has 4 bits of exponent and 3 of mantissa, up to 448; e2m1 has the magnitudes 0, 0.5, 1, 1.5, 2,
3, 4 and 6. A scale is a float, an e4m3 below a global scale (NVFP4), or a power of two of which the
exponent is stored, e8m0 (MXFP4; OCP Microscaling Formats 1.0, section 5). A sum of engines' rules:
w = element * (scale / divisor), where the divisor is what NVFP4 calls its global scale.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hubq.runtime.pieces import row_pieces
from hubq.tensors.quantized import QuantizedTensor

E4M3 = torch.float8_e4m3fn
E2M1 = torch.uint8  # a code a byte: the magnitude's index, and 8 more below zero
MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# Half-way between magnitudes, where ties go to the even one: at 0.75, 1.75 and 3.5 that is the
# upper one, so the limit is the greatest float32 below.
LIMITS = tuple(
    float(torch.nextafter(torch.tensor(each), torch.tensor(0.0))) if up else each
    for each, up in ((0.25, 0), (0.75, 1), (1.25, 0), (1.75, 1), (2.5, 0), (3.5, 1), (5.0, 0))
)
GREATEST = {E4M3: 448.0, E2M1: 6.0}  # of an element, by the dtype of codes
BIAS = 127  # of e8m0 exponents


@dataclass(frozen=True)
class Floating(QuantizedTensor):
    """A matrix of 8-bit or 4-bit floats with a scale for each block of it."""

    codes: Tensor  # (out, in): e4m3, or another float8; or uint8: the codes of e2m1
    scale: Tensor  # (row blocks, column blocks): floats; or uint8: the exponents of e8m0
    block: tuple[int, int]  # rows and columns of a block; the last may be smaller
    divisor: Tensor | None = None  # (1,) float32: of all scales
    rounds_inputs: bool = False  # whether inputs are rounded to such floats too as they arrive
    input_scale: Tensor | None = None  # (1,): of all inputs, where calibration chose it
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The matrix's (out, in)."""
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def bits(self) -> int:
        """The width of an element."""
        return 4 if self.codes.dtype == E2M1 else 8

    @property
    def activation_bits(self) -> int | None:
        """The bits to which inputs are rounded as they arrive; None: they are not."""
        return self.bits if self.rounds_inputs else None

    def steps(self, which: slice = slice(None)) -> Tensor:
        """Return the scale of each block of some rows, (rows, column blocks) float32."""
        rows = torch.arange(*which.indices(self.shape[0]), device=self.device)
        return scale_values(self.scale, self.divisor)[rows // self.block[0]]

    def rows(self, which: slice) -> Tensor:
        """Return some rows of the matrix, in float32 as readers multiply."""
        codes = self.codes[which]
        elements = e2m1_values(codes) if codes.dtype == E2M1 else codes.float()
        return elements.mul_(_spread(self.steps(which), self.block[1], self.shape[1]))

    def theoretical_bits(self) -> float:
        """Count the elements, the scales and what there is once for the matrix."""
        parts = (self.scale, self.divisor, self.input_scale)
        held = sum(8.0 * each.numel() * each.dtype.itemsize for each in parts if each is not None)
        return self.bits + held / self.codes.numel()

    def rounded(self, weight: Tensor) -> "Floating":  # (out, in)
        """Return a weight rounded to the nearest elements under these scales."""
        codes = torch.empty(weight.shape, dtype=self.codes.dtype, device=weight.device)
        for which in row_pieces(weight.shape, weight.device):
            steps = _spread(self.steps(which), self.block[1], weight.shape[1])
            codes[which] = nearest(weight[which].float() / steps, codes.dtype)
        return replace(self, codes=codes)


def nearest(elements: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the codes of the nearest elements, ties to even; what is too large is clipped."""
    if dtype != E2M1:
        greatest = GREATEST[dtype]
        return elements.clamp(-greatest, greatest).to(dtype)
    limits = torch.tensor(LIMITS, device=elements.device)
    index = torch.bucketize(elements.abs(), limits, out_int32=True)
    return (index + 8 * ((elements < 0) & (index > 0))).to(E2M1)


def e2m1_values(codes: Tensor) -> Tensor:  # uint8 -> float32
    """Return what codes of e2m1 stand for."""
    table = torch.tensor([*MAGNITUDES, *(-each for each in MAGNITUDES)], device=codes.device)
    return table[codes.int()]


def scale_values(scale: Tensor, divisor: Tensor | None) -> Tensor:
    """Return stored scales in float32: a power of two, or a float over the divisor of all."""
    if scale.dtype == torch.uint8:
        return torch.ldexp(torch.ones_like(scale, dtype=torch.float32), scale.int() - BIAS)
    return scale.float() if divisor is None else scale.float() / divisor


def _spread(steps: Tensor, width: int, columns: int) -> Tensor:
    """Return the scale of each column, (rows, columns), of blocks so wide."""
    if steps.shape[1] == 1:
        return steps
    return steps.repeat_interleave(width, 1)[:, :columns]
