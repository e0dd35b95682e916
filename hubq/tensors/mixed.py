"""Mixed weights: groups of columns, each in a representation with its own width."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hubq.tensors.quantized import QuantizedTensor


@dataclass(frozen=True)
class Mixed(QuantizedTensor):
    """Each group of columns belongs to one part; a part holds its columns in their order.

    A part may have no columns.
    """

    parts: tuple[QuantizedTensor, ...]  # each (out, its columns)
    part: Tensor  # (groups,) uint8: the part of each group of columns
    group_size: int  # columns; the last group may be ragged
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's (out, in)."""
        return self.parts[0].shape[0], sum(part.shape[1] for part in self.parts)

    def dequantize(self) -> Tensor:
        """Put each part's columns in their places."""
        out, columns = self.shape
        part = self.part[torch.arange(columns, device=self.part.device) // self.group_size]
        whole = torch.empty(out, columns, device=self.part.device)
        for number, each in enumerate(self.parts):
            whole[:, part == number] = each.dequantize()
        return whole

    def stored_bits(self) -> float:
        """Count the parts, and what names the part of each group."""
        out, columns = self.shape
        parts = sum(each.stored_bits() * out * each.shape[1] for each in self.parts)
        names = self.part.numel() * (len(self.parts) - 1).bit_length()
        return (parts + names) / (out * columns)
