"""Check awq modules that anyone wrote against their config, before they are unpacked."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.formats.foreign.parts import contradiction, matrix, require_finite

BITS = 4
IN_A_WORD = 8


def group_size_of(config: Mapping[str, Any]) -> int:
    """Return the group size of a config; raise UserError for a layout that hubq doesn't read."""
    version = str(config.get("version", config.get("checkpoint_format", "gemm"))).lower()
    if version != "gemm":
        raise UserError(
            f"the quantization_config says version: {version}; hubq reads gemm. "
            "Look for the same model in that version"
        )
    if config.get("bits") != BITS:
        raise UserError(f"the quantization_config says bits: {config.get('bits')}; awq has 4")
    size = config.get("group_size")
    if not isinstance(size, int) or (size < 1 and size != -1):
        raise UserError(
            f"the quantization_config says group_size: {size}; set it to the number of "
            "inputs that share a scale, or to -1 for a whole row (the first size of any "
            ".scales is the number of groups)"
        )
    return size


def require(module: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Raise UserError unless a module's tensors are as the config says."""
    size = group_size_of(config)
    qweight = matrix(module, "qweight", tensors, torch.int32)
    qzeros = matrix(module, "qzeros", tensors, torch.int32)
    scales = matrix(module, "scales", tensors, torch.float16, torch.bfloat16, torch.float32)
    columns, out = qweight.shape[0], scales.shape[1]
    if (qweight.shape[1], qzeros.shape[1]) != (out // IN_A_WORD,) * 2:
        shapes = f"qweight {tuple(qweight.shape)} and qzeros {tuple(qzeros.shape)}"
        raise contradiction(module, f"bits: {BITS}", f"has {shapes} for {out} outputs")
    groups = 1 if size == -1 else -(-columns // size)
    if (scales.shape[0], qzeros.shape[0]) != (groups, groups):
        found = f"has {scales.shape[0]} groups in scales and {qzeros.shape[0]} in qzeros"
        raise contradiction(module, f"group_size: {size}", f"{found} for {columns} inputs")
    require_finite(module, scales)
