"""Read weights in floats of 8 bits that anyone wrote: what is left of them is to write them out.

compressed-tensors (`float-quantized`) has one `weight_scale` for a tensor, for each row or for each
block of a matrix; the `fp8` method, DeepSeek's, has a `weight_scale_inv` for each block, which is a
factor like the other in spite of its name. A weight is float times scale. Scales of the inputs
(`input_scale`) are for readers that round these too; a dense copy does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.formats.foreign.parts import contradiction, matrix, require_finite, take
from hubq.tensors import Floating

BITS = 8
WEIGHTS = (torch.float8_e4m3fn, torch.float8_e5m2)
SCALES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = (128, 128)
ROUNDED = "rounded_inputs"  # a fact: the source's readers may round what goes into the module


def read(module: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Floating:
    """Return a module of the fp8 method; raise UserError where its tensors don't fit together."""
    block = config.get("weight_block_size", BLOCK)
    strategy = "tensor" if block is None else "block"
    return _scaled(module, tensors, "weight_scale_inv", (strategy, block))


def read_scaled(
    module: str,
    tensors: Mapping[str, Tensor],
    arguments: Mapping[str, Any],
    inputs: Mapping[str, Any] | None,
) -> Floating:
    """Return a module of compressed-tensors, by the arguments of its weights and its inputs."""
    said = (str(arguments.get("strategy", "tensor")), arguments.get("block_structure"))
    found = _scaled(module, tensors, "weight_scale", said)
    if inputs is None:
        return replace(found, facts={})
    calibrated = None
    if inputs.get("dynamic") is False:
        calibrated = take(module, "input_scale", tensors, *SCALES)
        require_finite(module, calibrated)
    return replace(found, rounds_inputs=True, input_scale=calibrated)


def _scaled(
    module: str, tensors: Mapping[str, Tensor], part: str, said: tuple[str, object]
) -> Floating:  # said: what has a scale (tensor, channel or block), and how large a block is
    weight, scale = (
        matrix(module, "weight", tensors, *WEIGHTS),
        take(module, part, tensors, *SCALES),
    )
    require_finite(module, scale)
    if not weight.is_meta:
        require_finite(module, weight)
    rows, columns = weight.shape
    blocks = {"tensor": (rows, columns), "channel": (1, columns)}
    block = blocks.get(said[0]) or _block(module, said[1])
    counts = (-(-rows // block[0]), -(-columns // block[1]))
    flat = (counts[0],) if counts[1] == 1 else counts
    if tuple(scale.shape) not in (counts, flat, ()) or scale.numel() != counts[0] * counts[1]:
        found = f"has {part} {tuple(scale.shape)} for a weight {(rows, columns)}"
        raise contradiction(module, f"a scale for each {said[0]} ({said[1]})", found)
    return Floating(weight, scale.reshape(counts), block, facts={ROUNDED: 1.0})


def _block(module: str, said: object) -> tuple[int, int]:
    """Return the rows and columns of a block."""
    sizes = list(said) if isinstance(said, Sequence) and not isinstance(said, str) else []
    if len(sizes) != 2 or any(type(each) is not int or each < 1 for each in sizes):
        raise UserError(
            f"the quantization_config says blocks of {said} for {module}, which are not two "
            "sizes: correct it in config.json, or fetch the model again"
        )
    return sizes[0], sizes[1]
