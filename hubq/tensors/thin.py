"""A quantized tensor in little memory: its codes and flags lie several to a byte.

Representations hold a code or a flag a byte, so that solvers and formats reach each of them. What
is only dequantized now and then, as the frozen linears of a training are, takes 1, 2, 4 or 8 bits a
code here, and its scales what they take anyway.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hubq.tensors.quantized import QuantizedTensor

WIDTHS = (1, 2, 4, 8)  # bits of a code, that divide a byte


class Packed(NamedTuple):
    """A tensor of small integers or flags, which `unpacked` gives back."""

    bytes: Tensor  # uint8: as many codes to each as fit, which lie far apart in the tensor
    width: int
    shape: torch.Size
    dtype: torch.dtype

    @classmethod
    def of(cls, codes: Tensor) -> "Packed":  # uint8 or bool, of any shape
        """Pack a tensor by its greatest value."""
        flat = codes.view(torch.uint8).flatten()
        greatest = int(flat.max()) if flat.numel() else 0
        width = next(each for each in WIDTHS if greatest < 1 << each)
        count = 8 // width
        size = -(-flat.numel() // count)
        parts = torch.nn.functional.pad(flat, (0, size * count - flat.numel())).view(count, size)
        packed = parts[0].clone()
        for number in range(1, count):
            packed |= parts[number] << (width * number)
        return cls(packed, width, codes.shape, codes.dtype)

    def unpacked(self) -> Tensor:
        """Return the tensor that was packed."""
        flat = self.bytes
        if self.width < 8:
            parts = self.bytes.new_empty(8 // self.width, len(self.bytes))
            for number, part in enumerate(parts):
                torch.bitwise_right_shift(self.bytes, self.width * number, out=part)
            flat = parts.bitwise_and_((1 << self.width) - 1).flatten()
        return flat[: self.shape.numel()].view(self.shape).view(self.dtype)


class Thin:
    """A quantized tensor that is unpacked when it is asked for."""

    def __init__(self, tensor: QuantizedTensor) -> None:
        self.packed: list[Packed] = []
        self.rest = with_tensors(tensor, self._taken)
        self.shape = tensor.shape

    def tensor(self) -> QuantizedTensor:
        """Return the whole tensor."""
        left = iter(self.packed)
        return with_tensors(
            self.rest, lambda each: next(left).unpacked() if _is_codes(each) else each
        )

    def dequantize(self, dtype: torch.dtype) -> Tensor:  # (out, in)
        """Return the exact float32 matrix, or what it rounds to in a dtype."""
        return self.tensor().dequantize(dtype)

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        sizes = [each.bytes.nbytes for each in self.packed]

        def counted(each: Tensor) -> Tensor:
            sizes.append(each.nbytes)
            return each

        with_tensors(self.rest, counted)
        return sum(sizes)

    def _taken(self, each: Tensor) -> Tensor:
        if not _is_codes(each):
            return each
        self.packed.append(Packed.of(each))
        return each.new_empty(0)


def _is_codes(each: Tensor) -> bool:
    return each.dtype in (torch.uint8, torch.bool)


def moved(tensor: QuantizedTensor, device: torch.device) -> QuantizedTensor:
    """Return a quantized tensor whose parts are on a device."""
    return with_tensors(tensor, lambda each: each.to(device))


def with_tensors(tensor: QuantizedTensor, change: Callable[[Tensor], Tensor]) -> QuantizedTensor:
    """Return a quantized tensor with something else for each of its tensors, in a fixed order."""
    changed: QuantizedTensor = _changed(tensor, change)
    return changed


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:  # noqa: ANN401 - of a field
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_changed(each, change) for each in value)
    if isinstance(value, QuantizedTensor) and is_dataclass(value):
        own = {each.name: getattr(value, each.name) for each in fields(value) if each.init}
        return replace(value, **{name: _changed(each, change) for name, each in own.items()})
    return value
