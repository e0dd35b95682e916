"""Read a module that bitsandbytes saved; `hubq/formats/bitsandbytes.py` describes its files."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.formats.foreign.parts import contradiction, require_finite, take
from hubq.tensors import Codebook, Values
from hubq.tensors.codebook import levels

NESTED_BLOCK = 256  # scales that share one, doubly quantized
STATE = "quant_state.bitsandbytes__"  # and nf4 or fp4
KEYS = ("blocksize", "dtype", "shape")  # of the state, that every module has
HALVES = 2  # codes of 4 bits in a byte


def read(module: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Codebook:
    """Return a module's weight; raise UserError for files that don't fit together."""
    if config.get("load_in_8bit"):
        return _rows(module, tensors)
    state = _state(module, tensors)
    packed = take(module, "weight", tensors, torch.uint8)
    out, columns = state["shape"]
    if packed.numel() * HALVES != out * columns:
        raise contradiction(
            module, f"{state['shape']} weights in 4 bits", f"has {packed.numel()} bytes"
        )
    pairs = packed.reshape(-1, 1)
    return Codebook(
        codes=torch.cat((pairs >> 4, pairs & 15), 1).view(out, columns),
        table=take(module, "weight.quant_map", tensors, torch.float32),
        scale=_scales(module, tensors, state),
        bits=4,
        group_size=state["blocksize"],
        offset=state.get("nested_offset", 0.0),
        dtype=getattr(torch, state["dtype"]),
    )


def _rows(module: str, tensors: Mapping[str, Tensor]) -> Codebook:
    """Return a weight of int8."""
    integers = take(module, "weight", tensors, torch.int8)
    greatest = take(module, "SCB", tensors, torch.float32)
    require_finite(module, greatest)
    if len(greatest) != len(integers):
        rows = f"has {len(integers)} rows and {len(greatest)} scales"
        raise contradiction(module, "load_in_8bit: true", rows)
    codes = integers.view(torch.uint8) + 128  # modulo 256
    return Codebook(codes, levels("int8"), greatest[:, None], 8, codes.shape[1], implied=True)


def _scales(module: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Values:
    """Return the scales (out, groups), doubly quantized or not."""
    out = state["shape"][0]
    scale = take(module, "weight.absmax", tensors, torch.float32, torch.uint8).view(out, -1)
    if scale.is_floating_point():
        require_finite(module, scale)
        return scale
    greatest = take(module, "weight.nested_absmax", tensors, torch.float32)
    require_finite(module, greatest)
    table = take(module, "weight.nested_quant_map", tensors, torch.float32)
    block = state.get("nested_blocksize", NESTED_BLOCK)
    return Codebook(scale, table, greatest[None], 8, block, flat=True)


def _state(module: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what a module's files hold as text."""
    kinds = [kind for kind in ("nf4", "fp4") if f"{module}.weight.{STATE}{kind}" in tensors]
    found = take(module, f"weight.{STATE}{(kinds or ['nf4'])[0]}", tensors, torch.uint8)
    try:
        state = json.loads(bytes(found.tolist()))
        missing = [key for key in KEYS if key not in state]
    except (ValueError, TypeError) as error:
        raise UserError(
            f"the state of {module} is not JSON ({error}); fetch the model again"
        ) from error
    if missing:
        raise UserError(f"the state of {module} lacks {missing[0]}; fetch the model again")
    return dict(state)
