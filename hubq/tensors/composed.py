"""Representations made of others: masked, mixed, reordered and rotated weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hubq.runtime.formulas import mixed_weight, reordered_weight, rotated_weight, turns
from hubq.tensors.affine import Affine
from hubq.tensors.binary import Binary
from hubq.tensors.packing import bitmap_words
from hubq.tensors.quantized import QuantizedTensor

SEED_BITS = 64


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

    def rows(self, which: slice) -> Tensor:
        """Choose weight by weight."""
        return torch.where(self.mask[which], self.chosen.rows(which), self.rest.rows(which))

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

    def rows(self, which: slice) -> Tensor:
        """Put each part's columns in their places."""
        parts = [each.rows(which) for each in self.parts]
        return mixed_weight(parts, self.part, self.group_size)

    def theoretical_bits(self) -> float:
        """Count the parts, and what names the part of each group."""
        out, columns = self.shape
        parts = sum(each.theoretical_bits() * out * each.shape[1] for each in self._filled)
        return (parts + self._names) / (out * columns)

    def stored_bits(self) -> float:
        """Count what the parts take, and what names the part of each group."""
        out, columns = self.shape
        parts = sum(each.stored_bits() * out * each.shape[1] for each in self._filled)
        return (parts + self._names) / (out * columns)

    @property
    def name_bits(self) -> int:
        """The bits that name a part."""
        return max(1, (len(self.parts) - 1).bit_length())

    @property
    def _names(self) -> int:
        return self.part.numel() * self.name_bits

    @property
    def _filled(self) -> list[QuantizedTensor]:
        return [each for each in self.parts if each.shape[1]]


@dataclass(frozen=True)
class Reordered(QuantizedTensor):
    """Column order[i] of the weight is column i of `inner`.

    GPTQ with activation order leaves such weights: columns that share a scale are not neighbours.
    No method of hubq makes them, since engines that serve fast no longer take them.
    """

    inner: QuantizedTensor
    order: Tensor  # (in,) int64, a permutation
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's (out, in)."""
        return self.inner.shape

    def rows(self, which: slice) -> Tensor:
        """Put each column in its place."""
        return reordered_weight(self.inner.rows(which), self.order)

    def theoretical_bits(self) -> float:
        """Count the inner matrix and the order."""
        return self.inner.theoretical_bits() + self._own_bits()

    def stored_bits(self) -> float:
        """Count what the inner matrix takes, and the order."""
        return self.inner.stored_bits() + self._own_bits()

    @property
    def place_bits(self) -> int:
        """The bits that name a column."""
        return max(1, (self.shape[1] - 1).bit_length())

    def _own_bits(self) -> float:
        return self.place_bits / self.shape[0]


@dataclass(frozen=True)
class Rotated(QuantizedTensor):
    """W = Uᵀ inner V diag(1 / diagonal), where U (out, out) and V (in, in) come from the seed."""

    inner: QuantizedTensor
    diagonal: Tensor  # (in,) in 16 bits or 8
    seed: int  # from 0 to 2^63 - 1
    facts: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's (out, in)."""
        return self.inner.shape

    def rows(self, which: slice) -> Tensor:
        """Return some rows of the whole: each is made of all rows of the inner matrix."""
        return self.dequantize()[which]

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Turn the inner matrix back and divide its columns by the diagonal."""
        return rotated_weight(self.inner.dequantize(), self.diagonal, self.seed).to(dtype)

    def theoretical_bits(self) -> float:
        """Count the inner matrix, the diagonal and the seed."""
        return self.inner.theoretical_bits() + self._own_bits()

    def stored_bits(self) -> float:
        """Count what the inner matrix takes, the diagonal and the seed."""
        return self.inner.stored_bits() + self._own_bits()

    def _own_bits(self) -> float:
        out, columns = self.shape
        diagonal = columns * self.diagonal.dtype.itemsize * 8
        return (diagonal + SEED_BITS) / (out * columns)


def rotate(weight: Tensor, seed: int) -> Tensor:  # (out, in)
    """Return U W Vᵀ in float32.

    What this rounds is rounded away with the weights; only the way back has to be exact.
    """
    output, inputs = turns(weight.shape[0], weight.shape[1], seed, weight.device)
    turned = inputs.forth(weight.float()).T.contiguous()
    return output.forth(turned).T.contiguous()
