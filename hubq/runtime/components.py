"""The tensors of a module, taken by name and refused where they are not as they must be."""

from collections.abc import Mapping

import torch
from torch import Tensor

from hubq.runtime.headers import DTYPES
from hubq.runtime.schemes import Shape
from hubq.runtime.unpacking import unpack_bitmap, unpack_stream

FLOATS = {
    str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values() if dtype.is_floating_point
}

Tensors = Mapping[str, Tensor]


def take(tensors: Tensors, name: str, shape: tuple[int, ...], *dtypes: torch.dtype) -> Tensor:
    """Return a tensor, which must be there and have this shape and one of these dtypes."""
    found = _there(tensors, name)
    if tuple(found.shape) != shape:
        raise ValueError(f"{name} has the shape {tuple(found.shape)} instead of {shape}")
    if found.dtype not in dtypes:
        spelled = " or ".join(str(each).removeprefix("torch.") for each in dtypes)
        raise ValueError(f"{name} is {found.dtype} instead of {spelled}")
    return found


def take_stream(tensors: Tensors, name: str, bits: int, count: int) -> Tensor:  # (count,) uint8
    """Read the codes of one stream."""
    found = _there(tensors, name)
    try:
        return unpack_stream(found, bits, count)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def take_bitmap(tensors: Tensors, name: str, shape: Shape) -> Tensor:  # (rows, columns) bool
    """Read a bitmap."""
    found = _there(tensors, name)
    try:
        return unpack_bitmap(found, shape)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _there(tensors: Tensors, name: str) -> Tensor:
    if name not in tensors:
        raise ValueError(f"the tensor {name} is missing")
    return tensors[name]


def take_codes(
    tensors: Tensors, name: str, bits: int, shape: Shape, where: Tensor | None
) -> Tensor:  # (out, in) uint8
    """Read codes; where only some weights have them, those of these lie end to end."""
    out, columns = shape
    if where is None:
        return take_stream(tensors, name, bits, out * columns).view(shape)
    found = take_stream(tensors, name, bits, int(where.count_nonzero()))
    codes = torch.zeros(shape, dtype=torch.uint8, device=found.device)
    return codes.masked_scatter_(where, found)


def take_flags(
    tensors: Tensors, name: str, shape: Shape, where: Tensor | None
) -> Tensor:  # (out, in) bool
    """Read a bitmap; where only some weights have a flag, those of these are its one row."""
    if where is None:
        return take_bitmap(tensors, name, shape)
    found = take_bitmap(tensors, name, (1, int(where.count_nonzero())))
    return torch.zeros_like(where).masked_scatter_(where, found)
