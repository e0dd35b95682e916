"""How compressed-tensors names and lays out floats: float-quantized, nvfp4- and mxfp4-packed.

FP8: `weight` float8_e4m3fn (out, in) and `weight_scale`, (out, 1) or one for each block of 128 x
128; `input_scale` (1,) where inputs have a scale from calibration. NVFP4 and MXFP4: `weight_packed`
uint8 (out, in / 2), the even column in the lower half of a byte; `weight_scale` float8_e4m3fn (out,
in / 16) or the exponents, uint8 (out, in / 32). NVFP4 has `weight_global_scale` float32 (1,), which
divides the scales, and `input_global_scale` where inputs are rounded: the names say scale, both are
divisors.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hubq.tensors import Floating
from hubq.tensors.floating import E2M1, E4M3

BLOCK = (128, 128)  # of FP8, as engines' kernels have them
WIDTHS = {"nvfp4": 16, "mxfp4": 32}  # columns that share a scale
LAYOUTS = {
    "fp8": "float-quantized",
    "nvfp4": "nvfp4-pack-quantized",
    "mxfp4": "mxfp4-pack-quantized",
}
SCALE_DTYPES = {"nvfp4": E4M3, "mxfp4": torch.uint8}


class FloatScheme(NamedTuple):
    """What floats must share to be described by one config group."""

    kind: str  # fp8, nvfp4 or mxfp4
    strategy: str  # what has a scale, in the library's words
    rounds_inputs: bool
    calibrated: bool  # whether calibration chose the scale of inputs
    symmetric: bool = True

    def __str__(self) -> str:
        inputs = " with rounded inputs" if self.rounds_inputs else ""
        return f"{self.kind} by {self.strategy}{inputs}"


def float_scheme(tensor: Floating) -> FloatScheme | None:
    """Name the scheme of floats; None for those that no engine has kernels for."""
    kind, strategy = _kind(tensor), _strategy(tensor)
    calibrated = tensor.input_scale is not None
    known = (
        (kind == "fp8" and strategy in ("channel", "tensor"))
        or (kind == "fp8" and strategy == "block" and not calibrated)
        or (kind == "nvfp4" and calibrated == tensor.rounds_inputs)
        or (kind == "mxfp4" and not calibrated)
    )
    return FloatScheme(kind, strategy, tensor.rounds_inputs, calibrated) if known else None


def _kind(tensor: Floating) -> str:
    """Name the data type, or nothing."""
    if tensor.codes.dtype == E4M3:
        return "fp8" if tensor.scale.dtype.itemsize > 1 and tensor.divisor is None else ""
    if tensor.codes.dtype != E2M1:
        return ""
    kind = "mxfp4" if tensor.divisor is None else "nvfp4"
    fits = tensor.scale.dtype == SCALE_DTYPES[kind] and tensor.block == (1, WIDTHS[kind])
    return kind if fits and tensor.shape[1] % WIDTHS[kind] == 0 else ""


def _strategy(tensor: Floating) -> str:
    """Say what has a scale, in the library's words, or nothing."""
    rows, columns = tensor.block
    if tensor.codes.dtype == E2M1:
        return "group" if tensor.divisor is None else "tensor_group"
    if columns == tensor.shape[1] and rows in (1, tensor.shape[0]):
        return "channel" if rows == 1 else "tensor"
    return "block" if tensor.block == BLOCK else ""


def packed(module: str, tensor: Floating) -> dict[str, Tensor]:
    """Return a module's tensors by full name."""
    parts = {"weight_scale": tensor.scale.contiguous()}
    if tensor.codes.dtype == E2M1:
        parts["weight_packed"] = tensor.codes[:, ::2] | (tensor.codes[:, 1::2] << 4)
        if tensor.divisor is not None:
            parts["weight_global_scale"] = tensor.divisor
        if tensor.input_scale is not None:
            parts["input_global_scale"] = tensor.input_scale
    else:
        parts["weight"] = tensor.codes
        if tensor.input_scale is not None:
            parts["input_scale"] = tensor.input_scale
    return {f"{module}.{name}": each for name, each in parts.items()}


def described(scheme: FloatScheme) -> dict[str, Any]:
    """Return a config group, without what it targets."""
    return {
        "weights": _arguments(scheme.kind, scheme.strategy, dynamic=False),
        "input_activations": _inputs(scheme) if scheme.rounds_inputs else None,
        "output_activations": None,
        "format": LAYOUTS[scheme.kind],
    }


def keys_and_values() -> dict[str, Any]:
    """Return the library's arguments of keys and values in FP8, by one scale each."""
    return _arguments("fp8", "tensor", dynamic=False)


def _inputs(scheme: FloatScheme) -> dict[str, Any]:
    """Ask readers to round inputs as they arrive."""
    if scheme.kind == "fp8":
        if scheme.calibrated:
            return _arguments("fp8", "tensor", dynamic=False)
        by_block = scheme.strategy == "block"
        found = _arguments("fp8", "group" if by_block else "token", dynamic=True)
        return found | ({"group_size": BLOCK[1]} if by_block else {})
    # Of NVFP4's inputs only the scales of groups are found as they arrive.
    return _arguments(scheme.kind, scheme.strategy, dynamic="local" if scheme.calibrated else True)


def _arguments(kind: str, strategy: str, *, dynamic: bool | str) -> dict[str, Any]:
    """Return the library's QuantizationArgs."""
    found: dict[str, Any] = {
        "num_bits": 8 if kind == "fp8" else 4,
        "type": "float",
        "symmetric": True,
        "strategy": strategy,
        "group_size": WIDTHS.get(kind),
        "dynamic": dynamic,
    }
    if strategy == "block":
        found["block_structure"] = list(BLOCK)
    if kind in SCALE_DTYPES:
        found["scale_dtype"] = str(SCALE_DTYPES[kind])
    return found


def unpacked_codes(packed_codes: Tensor) -> Tensor:  # (out, in / 2) uint8 -> (out, in) uint8
    """Return a code a byte; zeros below zero become plain ones."""
    codes = torch.stack((packed_codes & 15, packed_codes >> 4), 2).flatten(1)
    return codes if codes.is_meta else codes.masked_fill_(codes == 8, 0)
