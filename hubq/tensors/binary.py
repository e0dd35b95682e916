"""Binary weights: sums of signs, with scales for each row and group of columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hubq.tensors.quantized import QuantizedTensor, Values, value_bits, values


@dataclass(frozen=True)
class Binary(QuantizedTensor):
    """w = mean + the sum over planes k of scale_k * s_k, where s_k is -1 or 1 (unipolar: 0 or 1).

    One plane is plain binarization. Two planes are a residual one; and also a split into small and
    large weights, since s (m ? a : b) = s (a + b) / 2 + s m' (a - b) / 2 for a flag m' of -1 or 1.
    Groups are `group_size` neighbouring columns, the last maybe ragged. Where `apart` marks some
    columns, each group is two: group 2g has the unmarked and 2g + 1 the marked columns.
    """

    signs: Tensor  # (planes, out, in) bool
    scale: tuple[Values, ...]  # for each plane, (out, groups)
    mean: Values | None  # (out, groups)
    group_size: int
    apart: Tensor | None = None  # (in,) bool
    unipolar: bool = False
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's (out, in)."""
        return self.signs.shape[1], self.signs.shape[2]

    @property
    def group(self) -> Tensor:
        """The group of each column, (in,)."""
        place = torch.arange(self.shape[1], device=self.signs.device) // self.group_size
        return place if self.apart is None else 2 * place + self.apart

    def dequantize(self) -> Tensor:
        """Add the planes to the mean, in their order, in float32."""
        group = self.group
        total = torch.zeros(self.shape, device=self.signs.device)
        if self.mean is not None:
            total += values(self.mean)[:, group]
        for signs, scale in zip(self.signs, self.scale, strict=True):
            plane = signs.float() if self.unipolar else signs.float().mul_(2).sub_(1)
            total += plane.mul_(values(scale)[:, group])
        return total

    def stored_bits(self) -> float:
        """Count the signs, the scales, the means and a flag a column."""
        out, columns = self.shape
        flags = 0 if self.apart is None else columns
        means = 0 if self.mean is None else value_bits(self.mean)
        scales = sum(map(value_bits, self.scale))
        return len(self.signs) + (scales + means + flags) / (out * columns)
