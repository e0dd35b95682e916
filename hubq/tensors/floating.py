"""Floats of 8 and 4 bits with scales: FP8, NVFP4 and MXFP4, as compressed-tensors holds them.

e4m3 has 4 bits of exponent and 3 of mantissa, up to 448; e2m1 has the magnitudes 0, 0.5, 1, 1.5, 2,
3, 4 and 6. A scale is a float, an e4m3 below a global scale (NVFP4), or a power of two of which the
exponent is stored, e8m0 (MXFP4; OCP Microscaling Formats 1.0, section 5). As engines compute it,
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
        steps = self.steps(which)[..., None]
        return by_blocks(elements, self.block[1]).mul_(steps).flatten(1)[:, : self.shape[1]]

    def theoretical_bits(self) -> float:
        """Count the elements, the scales and what there is once for the matrix."""
        parts = (self.scale, self.divisor, self.input_scale)
        held = sum(8.0 * each.numel() * each.dtype.itemsize for each in parts if each is not None)
        return self.bits + held / self.codes.numel()

    def rounded(self, weight: Tensor) -> "Floating":  # (out, in)
        """Return a weight rounded to the nearest elements under these scales."""
        codes = torch.empty(weight.shape, dtype=self.codes.dtype, device=weight.device)
        for which in row_pieces(weight.shape, weight.device):
            grouped = by_blocks(weight[which].float(), self.block[1])
            found = nearest(grouped / self.steps(which)[..., None], codes.dtype)
            codes[which] = found.flatten(1)[:, : weight.shape[1]]
        return replace(self, codes=codes)


def nearest(elements: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the codes of the nearest elements, ties to even; what is too large is clipped."""
    if dtype != E2M1:
        greatest = GREATEST[dtype]
        return elements.clamp(-greatest, greatest).to(dtype)
    found = round_to_e2m1(elements.clone())
    twice = found.abs().mul_(2)  # 0, 1, 2, 3, 4, 6, 8, 12
    index = torch.minimum(twice, twice / 2 + 2).clamp_(max=7)
    return index.add_(found < 0, alpha=8).to(E2M1)


def round_to_e2m1(elements: Tensor) -> Tensor:
    """Round float32 numbers in place to the nearest of e2m1, ties to the even one.

    Between two powers of two the steps are equal: halves below 2, ones below 4, then twos.
    """
    steps = elements.abs().clamp_(1, 4)
    steps.view(torch.int32).bitwise_and_(0x7F800000)  # to the power of two below
    steps.mul_(0.5)
    return elements.div_(steps).round_().mul_(steps).clamp_(-6, 6)


def e2m1_values(codes: Tensor) -> Tensor:  # uint8 -> float32
    """Return what codes of e2m1 stand for."""
    index = (codes & 7).float()
    found = torch.maximum(index / 2, index - 2)
    found = torch.maximum(found, index.mul_(2).sub_(8))
    return found.mul_(1 - 2 * (codes > 7).float())


def scale_values(scale: Tensor, divisor: Tensor | None) -> Tensor:
    """Return stored scales in float32: a power of two, or a float over the divisor of all."""
    if scale.dtype == torch.uint8:
        return torch.ldexp(torch.ones_like(scale, dtype=torch.float32), scale.int() - BIAS)
    return scale.float() if divisor is None else scale.float() / divisor


def by_blocks(elements: Tensor, width: int) -> Tensor:  # (rows, in) -> (rows, blocks, width)
    """View columns by the blocks that share a scale; a ragged last one is filled with zeros."""
    missing = -elements.shape[1] % width
    filled = torch.nn.functional.pad(elements, (0, missing)) if missing else elements
    return filled.reshape(len(elements), -1, width)
