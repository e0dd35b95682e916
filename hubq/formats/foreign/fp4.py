"""Read weights in floats of 4 bits, NVFP4 and MXFP4, as compressed-tensors packs them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.formats.foreign.fp8 import ROUNDED
from hubq.formats.foreign.parts import contradiction, matrix, require_finite, take
from hubq.formats.layouts.float_scheme import SCALE_DTYPES, WIDTHS, unpacked_codes
from hubq.tensors import Floating

BITS = 4


def read(
    module: str,
    tensors: Mapping[str, Tensor],
    arguments: Mapping[str, Any],
    inputs: Mapping[str, Any] | None,
) -> Floating:
    """Return a module, by the arguments of its config group's weights and inputs.

    Raises UserError where they and the tensors don't fit together.
    """
    size = arguments.get("group_size")
    kind = next((name for name, width in WIDTHS.items() if width == size), None)
    if kind is None:
        raise UserError(
            f"{module} has 4-bit floats with group_size {str(size)[:20]}; hubq reads NVFP4 (16) "
            "and MXFP4 (32)"
        )
    codes = unpacked_codes(matrix(module, "weight_packed", tensors, torch.uint8))
    scale = matrix(module, "weight_scale", tensors, SCALE_DTYPES[kind])
    rows, columns = codes.shape
    if scale.shape != (rows, columns // WIDTHS[kind]) or columns % WIDTHS[kind]:
        found = f"has scales {tuple(scale.shape)} for a weight {(rows, columns)}"
        raise contradiction(module, f"group_size: {size}", found)
    _require_numbers(module, scale)
    nvfp4 = kind == "nvfp4"
    return Floating(
        codes,
        scale,
        (1, WIDTHS[kind]),
        divisor=_global_scale(module, "weight_global_scale", tensors) if nvfp4 else None,
        rounds_inputs=inputs is not None,
        input_scale=_global_scale(module, "input_global_scale", tensors)
        if nvfp4 and inputs is not None
        else None,
        facts={} if inputs is None else {ROUNDED: 1.0},
    )


def _global_scale(module: str, part: str, tensors: Mapping[str, Tensor]) -> Tensor:  # (1,)
    """Return what divides all scales."""
    found = take(module, part, tensors, torch.float32)
    if found.numel() != 1 or not 0 < float(found) < torch.inf:
        raise UserError(
            f"{module}.{part} is not one positive number: the file is damaged; fetch the model "
            "again"
        )
    return found.reshape(1)


def _require_numbers(module: str, scale: Tensor) -> None:
    """Refuse scales that are no numbers; of e8m0 that is the last exponent."""
    if scale.dtype == torch.uint8 and bool((scale == 255).any()):
        raise UserError(
            f"the scales of {module} hold NaN: the file is damaged; fetch the model again"
        )
    require_finite(module, scale)
