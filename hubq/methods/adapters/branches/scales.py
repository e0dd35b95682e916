"""The scales of an affine linear as what is trained, codes and zeros as they are.

With w = s (q - z), the gradient of a scale is that of the weights of its group, times q - z, summed
(Kim et al. 2023, section 3). Scales are s = s0 exp(c / m), where c is trained and m is the linear's
mean scale: none changes its sign, and a step by which c moves so far moves an average scale as far,
the others in proportion. So a learning rate means what it does in the papers, which train s itself.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from hubq.runtime.formulas import by_group
from hubq.runtime.pieces import row_pieces
from hubq.tensors import SMALLEST_SCALE, Affine
from hubq.tensors.quantized import as_read


class Scales(nn.Module):
    """A linear whose float32 scales are trained; at first it is the quantized one, bit for bit."""

    codes: Tensor  # (out, in) uint8
    scale: Tensor  # (out, groups), as stored before the training
    zero: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        quantized: Affine,
        bias: Tensor | None = None,
        rounded: torch.dtype = torch.float32,
    ) -> None:
        """Begin with a tensor; `rounded` is the dtype to which readers round its weights."""
        super().__init__()
        assert quantized.activation_bits is None, "PEQA refuses inputs that are rounded"
        self.bits, self.group_size, self.rounded = quantized.bits, quantized.group_size, rounded
        for name, each in (
            ("codes", quantized.codes),
            ("scale", quantized.scales),
            ("zero", quantized.zero),
            ("bias", bias),
        ):
            self.register_buffer(name, each, persistent=False)
        self.change = nn.Parameter(torch.zeros_like(quantized.scales, dtype=torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:  # (..., in)
        """Return what the linear puts out, (..., out), in the inputs' dtype."""
        found: Tensor = _Dequantized.apply(  # type: ignore[no-untyped-call]
            inputs, self.scales, self, self.bias
        )
        return found

    @property
    def scales(self) -> Tensor:
        """The scales as they are by now, (out, groups) float32; differentiable."""
        start = self.scale.float()
        return start * torch.exp(self.change / start.mean())

    def dense(self, scales: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the weights (out, in) by some scales, rounded as readers do."""
        return as_read(replace(self.quantized, scale=scales), self.rounded, dtype)

    @property
    def quantized(self) -> Affine:
        """The tensor before the training."""
        return Affine(self.codes, self.scale, self.zero, self.bits, self.group_size)

    @torch.no_grad()
    def finished(self) -> Affine:
        """Return the tensor with its scales rounded to the dtype in which the file stores them."""
        dtype = self.scale.dtype
        scales = self.scales.clamp(SMALLEST_SCALE, torch.finfo(dtype).max)
        return replace(self.quantized, scale=scales.to(dtype))


class _Dequantized(torch.autograd.Function):
    """x Wᵀ + b, where W is dequantized forth and once more back: nothing dense is kept."""

    @staticmethod
    def forward(
        context: Any,  # noqa: ANN401 - torch's own carries no type
        inputs: Tensor,
        scales: Tensor,
        layer: Scales,
        bias: Tensor | None,
    ) -> Tensor:
        """Return the outputs, in the inputs' dtype."""
        context.save_for_backward(inputs, scales)
        context.layer = layer
        return linear(inputs, layer.dense(scales, inputs.dtype), bias)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Return the gradients of inputs and scales."""
        inputs, scales = context.saved_tensors
        (gradient,) = gradients
        of_inputs = of_scales = None
        if context.needs_input_grad[0]:
            of_inputs = gradient @ context.layer.dense(scales, gradient.dtype)
        if context.needs_input_grad[1]:
            flat = (gradient.flatten(0, -2), inputs.flatten(0, -2))
            of_scales = scale_gradient(context.layer.quantized, *flat)
        return of_inputs, of_scales, None, None


def scale_gradient(quantized: Affine, gradient: Tensor, inputs: Tensor) -> Tensor:
    """Return the gradient of the scales (out, groups), for that of (tokens, out) outputs.

    That of the weights, (tokens, out)ᵀ (tokens, in), is made some rows at a time, in the dtype that
    the model runs in, and summed in float32.
    """
    levels = replace(quantized, scale=torch.ones_like(quantized.scales))
    found = torch.empty(quantized.scales.shape, device=gradient.device)
    for rows in row_pieces(quantized.shape, gradient.device):
        weights = (gradient[:, rows].T @ inputs).float().mul_(levels.rows(rows))
        for part, groups in by_group(weights, quantized.group_size):
            found[rows, groups] = part.sum(2)
    return found
