"""Masked weights: a bitmap that chooses between two other representations, weight by weight."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hubq.tensors.affine import Affine
from hubq.tensors.binary import Binary
from hubq.tensors.bitmap import bitmap_words
from hubq.tensors.quantized import QuantizedTensor


@dataclass(frozen=True)
class Masked(QuantizedTensor):
    """Where the mask is set the weight is `chosen`'s, elsewhere `rest`'s.

    Both have the full shape; codes and signs at places that belong to the other are zero and are
    not stored.
    """

    mask: Tensor  # (out, in) bool
    chosen: Affine
    rest: Binary
    count: int  # how many weights the mask chooses: known without data
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's (out, in)."""
        return self.mask.shape[0], self.mask.shape[1]

    def dequantize(self) -> Tensor:
        """Choose weight by weight."""
        return torch.where(self.mask, self.chosen.dequantize(), self.rest.dequantize())

    def theoretical_bits(self) -> float:
        """Count the bitmap, the codes of the chosen, the signs of the rest, and all scales."""
        share = 1 - self.count / self.mask.numel()
        return 1 + self._chosen_bits() + share * len(self.rest.signs) + self.rest.scale_bits()

    def stored_bits(self) -> float:
        """Count the bitmap and the signs as they lie on disk, the codes and all scales."""
        size = self.mask.numel()
        mask = 32 * bitmap_words(self.mask, self.count) / size
        signs = self.rest.sign_bits(~self.mask, size - self.count)
        return mask + self._chosen_bits() + signs + self.rest.scale_bits()

    def _chosen_bits(self) -> float:
        share = self.count / self.mask.numel()
        return self.chosen.theoretical_bits() - (1 - share) * self.chosen.bits
