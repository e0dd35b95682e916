"""Read weights in floats of 8 bits that anyone wrote: what is left of them is to write them out.

compressed-tensors (`float-quantized`) has one `weight_scale` for a tensor, for each row or for each
block of a matrix; the `fp8` method, DeepSeek's, has a `weight_scale_inv` for each block, which is a
factor like the other in spite of its name. A weight is float times scale. Scales of the inputs
(`input_scale`) are for readers that round these too; a dense copy does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.formats.foreign.parts import contradiction, matrix, require_finite, take
from hubq.tensors import QuantizedTensor

BITS = 8
WEIGHTS = (torch.float8_e4m3fn, torch.float8_e5m2)
SCALES = (torch.float32, torch.bfloat16, torch.float16)
BLOCK = (128, 128)
ROUNDED = "rounded_inputs"  # a fact: the source's readers may round what goes into the module


@dataclass(frozen=True)
class Scaled(QuantizedTensor):
    """A matrix of 8-bit floats with a scale for each block of it."""

    weight: Tensor  # (out, in) float8
    scale: Tensor  # (row blocks, column blocks)
    block: tuple[int, int]  # rows and columns of a block; the last may be smaller
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The matrix's (out, in)."""
        return self.weight.shape[0], self.weight.shape[1]

    def rows(self, which: slice) -> Tensor:
        """Return some rows of the float32 matrix."""
        out, columns = self.shape
        block = torch.arange(*which.indices(out), device=self.device) // self.block[0]
        scale = self.scale.float()[block].repeat_interleave(self.block[1], 1)[:, :columns]
        return self.weight[which].float() * scale

    def theoretical_bits(self) -> float:
        """Return 8 bits, and the scales'."""
        bits = 8.0 * self.scale.numel() * self.scale.dtype.itemsize
        return BITS + bits / self.weight.numel()


def read(module: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Scaled:
    """Return a module of the fp8 method; raise UserError where its tensors don't fit together."""
    block = config.get("weight_block_size", BLOCK)
    strategy = "tensor" if block is None else "block"
    return _scaled(module, tensors, "weight_scale_inv", (strategy, block))


def read_scaled(module: str, tensors: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> Scaled:
    """Return a module of compressed-tensors, by the arguments of its config group's weights."""
    said = (str(arguments.get("strategy", "tensor")), arguments.get("block_structure"))
    return _scaled(module, tensors, "weight_scale", said)


def _scaled(
    module: str, tensors: Mapping[str, Tensor], part: str, said: tuple[str, object]
) -> Scaled:  # said: what has a scale (tensor, channel or block), and how large a block is
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
    return Scaled(weight, scale.reshape(counts), block, {ROUNDED: 1.0})


def _block(module: str, said: object) -> tuple[int, int]:
    """Return the rows and columns of a block."""
    sizes = list(said) if isinstance(said, Sequence) and not isinstance(said, str) else []
    if len(sizes) != 2 or any(type(each) is not int or each < 1 for each in sizes):
        raise UserError(
            f"the quantization_config says blocks of {said} for {module}, which are not two "
            "sizes: correct it in config.json, or fetch the model again"
        )
    return sizes[0], sizes[1]
