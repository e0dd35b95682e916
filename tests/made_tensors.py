"""Random tensors of every representation, in any shape, with data and without."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from hubq.tensors import (
    Affine,
    Binary,
    Codebook,
    Grid,
    Masked,
    Mixed,
    QuantizedTensor,
    Reordered,
    Rotated,
    Values,
)

Shape = tuple[int, int]


def affine(shape: Shape, bits: int, group_size: int, *, symmetric: bool = False) -> Affine:
    """Return random codes, with bfloat16 scales."""
    inner = (shape[0], groups(shape[1], group_size))
    zero = None if symmetric else torch.randint(0, 1 << bits, inner, dtype=torch.uint8)
    codes = torch.randint(0, 1 << bits, shape, dtype=torch.uint8)
    return Affine(codes, positive(inner), zero, bits, group_size)


def nested(shape: Shape, bits: int, group_size: int) -> Affine:
    """Return random codes under scales that are affine themselves."""
    given = affine(shape, bits, group_size)
    scale = Affine.fit(given.scales.float(), Grid(6))
    return Affine(given.codes, scale, given.zero, bits, group_size)


def binary(shape: Shape, planes: int = 2, *, apart: bool = False, mean: bool = True) -> Binary:
    """Return random signs in groups of 24; each plane differs from the one before in a fifth."""
    inner = (shape[0], groups(shape[1], 24) * (2 if apart else 1))
    signs = [torch.rand(shape) < 0.5]
    for _ in range(1, planes):
        signs.append(signs[-1] ^ (torch.rand(shape) < 0.2))
    scale: tuple[Values, ...] = tuple(positive(inner) for _ in range(planes))
    marks = torch.rand(shape[1]) < 0.2 if apart else None
    level = Affine.fit(torch.randn(inner), Grid(8)) if mean else None
    return Binary(torch.stack(signs), scale, level, 24, marks, unipolar=planes == 3)


def masked(shape: Shape, share: float) -> Masked:
    """Return random codes in a share of the places, and signs elsewhere."""
    mask = torch.rand(shape) < share
    codes = torch.randint(0, 256, shape, dtype=torch.uint8) * mask
    inner = (shape[0], 1)
    chosen = Affine(codes, positive(inner), torch.zeros(inner, dtype=torch.uint8), 8, shape[1])
    rest = binary(shape)
    rest = Binary(rest.signs & ~mask, rest.scale, rest.mean, 24)
    return Masked(mask, chosen, rest, int(mask.sum()))


def mixed(shape: Shape) -> Mixed:
    """Return four widths over groups of 8 columns; some may have none."""
    part = torch.randint(0, 4, (groups(shape[1], 8),), dtype=torch.uint8)
    owner = part[torch.arange(shape[1]) // 8]
    widths = [int((owner == number).sum()) for number in range(4)]
    parts = [affine((shape[0], width), bits + 1, 8) for bits, width in enumerate(widths)]
    return Mixed(tuple(parts), part, 8)


def codebook(shape: Shape, *, shared: bool) -> Codebook:
    """Return random codes of 12 entries."""
    inner = (1, 1) if shared else (shape[0], groups(shape[1], 40))
    codes = torch.randint(0, 12, shape, dtype=torch.uint8)
    scale = positive(inner).to(torch.float8_e4m3fn if shared else torch.float16)
    return Codebook(codes, torch.randn(12), scale, 4, 40, offset=0.25)


def shifted(shape: Shape) -> Codebook:
    """Return random codes with a shift for each group; scales and shifts are in 8 bits, flat."""
    given = codebook(shape, shared=False)
    inner = (shape[0], groups(shape[1], 40))

    def in_eight_bits() -> Codebook:
        codes = torch.randint(0, 256, inner, dtype=torch.uint8)
        greatest = torch.rand(1, groups(codes.numel(), 16)) + 0.1
        return Codebook(codes, torch.randn(256), greatest, 8, 16, flat=True)

    return replace(given, scale=in_eight_bits(), shift=in_eight_bits())


def every_kind(shape: Shape) -> Iterator[QuantizedTensor]:
    """Yield a tensor of each representation, with each of its options."""
    torch.manual_seed(shape[0] * 1000 + shape[1])
    columns = shape[1]
    for bits in (1, 2, 3, 5, 8):
        yield affine(shape, bits, 16)
        yield affine(shape, bits, columns, symmetric=True)
    yield nested(shape, 2, 16)
    for dtype in (torch.float8_e5m2, torch.float8_e4m3fn, torch.float16, torch.float32):
        plain = affine(shape, 4, 16)
        yield replace(plain, scale=plain.scales.to(dtype))
    for planes in (1, 2, 3):
        yield binary(shape, planes, mean=planes != 3)
        yield binary(shape, planes, apart=True)
    for share in (0.0, 0.02, 0.5, 1.1):
        yield masked(shape, share)
    yield mixed(shape)
    for shared in (False, True):
        yield codebook(shape, shared=shared)
    yield Rotated(affine(shape, 2, columns), positive((1, columns))[0], (1 << 63) - 1)
    yield Rotated(codebook(shape, shared=True), positive((1, columns))[0], 0)
    yield Reordered(affine(shape, 4, 16), torch.randperm(columns))
    yield shifted(shape)
    run_on = (1, groups(shape[0] * columns, 40))
    for shift in (None, torch.randn(run_on)):
        yield replace(codebook(shape, shared=False), scale=positive(run_on), flat=True, shift=shift)


def groups(columns: int, group_size: int) -> int:
    """Return how many groups so many columns make; the last may be ragged."""
    return -(-columns // group_size)


def positive(shape: Shape) -> Tensor:
    """Return random scales."""
    return (torch.rand(shape) + 0.1).bfloat16()


def same(one: object, other: object) -> bool:
    """Tell whether two tensors are bit for bit the same, component by component."""
    if isinstance(one, Tensor):
        assert isinstance(other, Tensor)
        # As floats: torch compares none of 8 bits. No component is NaN.
        return one.dtype == other.dtype and torch.equal(one.float(), other.float())
    if isinstance(one, QuantizedTensor):
        # The last is the model's, which files of the hubq format leave out.
        compared = vars(one).keys() - {"facts", "changes", "dtype"}
        alike = all(same(vars(one)[each], vars(other)[each]) for each in compared)
        return type(one) is type(other) and alike
    if isinstance(one, tuple):
        assert isinstance(other, tuple)
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
