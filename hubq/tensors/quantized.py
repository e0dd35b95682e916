"""What every quantized representation can do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from hubq.runtime.pieces import in_pieces


class QuantizedTensor(ABC):
    """A matrix of shape (out, in) that is stored in fewer bits."""

    facts: Mapping[str, float]  # what its solver had to do that a reader should know

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """The matrix's (out, in)."""

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return next(each.device for each in vars(self).values() if isinstance(each, Tensor))

    @abstractmethod
    def rows(self, which: slice) -> Tensor:
        """Return some rows of the exact float32 matrix, (rows, in)."""

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the exact float32 matrix, shape (out, in), or what it rounds to in a dtype."""
        return in_pieces(self.rows, self.shape, self.device, dtype)

    @abstractmethod
    def theoretical_bits(self) -> float:
        """Return the bits a weight of all that defines the matrix: a sign or a flag is one bit."""

    def stored_bits(self) -> float:
        """Return the bits a weight that the components take on disk, each packed at its width.

        Only flags of which few are set take less than what is needed; without data, on the meta
        device, what they will take is an estimate.
        """
        return self.theoretical_bits()


class Dequantized(Protocol):
    """What a matrix can be made of."""

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """Return the exact float32 matrix (out, in), or what it rounds to in a dtype."""


def as_read(given: Dequantized, rounded: torch.dtype, dtype: torch.dtype) -> Tensor:  # (out, in)
    """Return a matrix as readers compute with it that round to one dtype, whatever they run in."""
    if rounded == torch.float32:
        return given.dequantize(dtype)
    return given.dequantize(rounded).to(dtype)


# A matrix of scales or means: 16-bit floats, or quantized in its turn.
Values = Tensor | QuantizedTensor


def values(given: Values) -> Tensor:
    """Return a matrix of scales or means in float32."""
    return given.float() if isinstance(given, torch.Tensor) else given.dequantize()


def value_rows(given: Values, which: slice) -> Tensor:
    """Return some rows of a matrix of scales or means in float32."""
    return given[which].float() if isinstance(given, torch.Tensor) else given.rows(which)


def value_bits(given: Values) -> float:
    """Return all the bits that a matrix of scales or means takes."""
    if isinstance(given, torch.Tensor):
        return given.numel() * given.dtype.itemsize * 8
    out, columns = given.shape
    return given.theoretical_bits() * out * columns
