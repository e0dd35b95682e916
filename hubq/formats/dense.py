"""dense: what a quantized model computes with, written out in 16 bits. Loads everywhere.

The file saves no memory: it serves engines that know none of the packed formats, and comparisons.
config.json has no quantization_config; `hubq_dequantized_from` marks the copy as what it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from hubq.formats import Format
from hubq.formats.foreign.parts import take
from hubq.sources.vision import VisionFamily
from hubq.tensors import QuantizedTensor

FLOATS = (torch.bfloat16, torch.float16)
MARK = "hubq_dequantized_from"  # a key of config.json


@dataclass(frozen=True)
class Plain(QuantizedTensor):
    """A weight in 16-bit floats."""

    weight: Tensor  # (out, in) bfloat16 or float16
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's (out, in)."""
        return self.weight.shape[0], self.weight.shape[1]

    def rows(self, which: slice) -> Tensor:
        """Return some rows of the weight in float32."""
        return self.weight[which].float()

    def theoretical_bits(self) -> float:
        """Return 16."""
        return 8.0 * self.weight.dtype.itemsize


class Dense(Format):
    """Any weights, rounded to 16 bits."""

    name: ClassVar[str] = "dense"
    loads_in: ClassVar[str] = "everywhere, as a 16-bit model"
    remark: ClassVar[str] = (
        "This is a dense copy: the quantized weights are written out in 16 bits, so that it takes "
        "the memory of the unquantized model."
    )

    def scale_dtype(self, model: torch.dtype) -> torch.dtype:
        """Return the model's 16-bit dtype; the weights are rounded to it too."""
        return torch.float16 if model == torch.float16 else torch.bfloat16

    def why_unsupported(self, tensor: QuantizedTensor) -> str | None:
        """Refuse rounded activations: a plain model leaves its inputs alone."""
        bits = getattr(tensor, "activation_bits", None)
        if bits is None:
            return None
        return (
            f"a dense copy leaves activations in 16 bits, and this method rounds them to {bits}; "
            "use format: compressed-tensors"
        )

    def pack(self, module: str, tensor: QuantizedTensor) -> dict[str, Tensor]:
        """Write the weight itself."""
        return {f"{module}.weight": plain(tensor, dtype_of(tensor)).weight}

    def unpack(
        self, module: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]
    ) -> Plain:
        """Read the weight; the integers that it was made from are not in the file."""
        return Plain(take(module, "weight", tensors, *FLOATS))

    def config(
        self,
        quantized: Mapping[str, QuantizedTensor],
        kept: Sequence[str],
        sees: VisionFamily | None = None,
    ) -> dict[str, Any]:
        """Return nothing: for readers the model is not quantized."""
        return {}

    def config_additions(self, sees: VisionFamily | None = None) -> dict[str, Any]:
        """Mark the copy."""
        return {MARK: "weights that hubq quantized"}


def plain(tensor: QuantizedTensor, dtype: torch.dtype) -> Plain:
    """Dequantize a tensor and round it; one without data stays so."""
    if isinstance(tensor, Plain):
        return tensor
    if lacks_data(tensor):
        return Plain(torch.empty(tensor.shape, dtype=dtype, device="meta"))
    return Plain(tensor.dequantize(dtype))


def dtype_of(tensor: QuantizedTensor) -> torch.dtype:
    """Return the 16-bit dtype of a representation's scales."""
    found = (each.dtype for each in _components(tensor) if each.dtype in FLOATS)
    return next(found, torch.bfloat16)


def lacks_data(tensor: QuantizedTensor) -> bool:
    """Tell whether a part of a representation is on the meta device."""
    return any(each.is_meta for each in _components(tensor))


def _components(value: object) -> list[Tensor]:
    """List the tensors that a representation consists of, however deep."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, QuantizedTensor):
        value = tuple(getattr(value, each.name) for each in fields(value))  # type: ignore[arg-type]
    if isinstance(value, tuple):
        return [tensor for each in value for tensor in _components(each)]
    return []


FORMAT = Dense()
