"""A second reader, written from hubq/formats/hubq.md alone: no torch, one number after another."""

import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import made_tensors
import numpy as np
import pytest
import torch
from torch import Tensor

import hubq.formats
from hubq.formats.hubq import FORMAT
from hubq.runtime.schemes import SCHEME_KEYS
from hubq.tensors import QuantizedTensor, Rotated

SPECIFICATION = Path(hubq.formats.__file__).with_name("hubq.md")
F32 = np.float32
Matrix = list[list[Any]]


class File:
    """The tensors of a module, as the bytes that a file has."""

    def __init__(self, packed: dict[str, Tensor]) -> None:
        self.bytes = {
            name.removeprefix("m."): tensor.contiguous().view(torch.uint8).numpy().tobytes()
            for name, tensor in packed.items()
            if tensor.numel()
        }

    def bits(self, name: str) -> str:
        """Return all bits of a stream, the first one first."""
        return "".join(format(each, "08b")[::-1] for each in self.bytes.get(name, b""))

    def codes(self, name: str, width: int, count: int) -> list[int]:
        """Return a stream's codes; the rest of its last word must be zero."""
        bits = self.bits(name)
        assert len(bits) == 32 * math.ceil(count * width / 32)
        assert "1" not in bits[count * width :]
        return [number(bits[at : at + width]) for at in range(0, count * width, width)]

    def floats(self, name: str, dtype: str) -> list[np.float32]:
        """Return numbers of any width."""
        raw = self.bytes.get(name, b"")
        if dtype == "bfloat16":  # the upper half of a float32
            halves = struct.unpack(f"<{len(raw) // 2}H", raw)
            return [F32(struct.unpack("<f", struct.pack("<I", each << 16))[0]) for each in halves]
        if dtype == "float8_e4m3fn":
            return [e4m3(each) for each in raw]
        if dtype == "float8_e5m2":  # the upper half of a float16
            raw, dtype = bytes(each for upper in raw for each in (0, upper)), "float16"
        return list(np.frombuffer(raw, dtype={"float16": "<f2", "float32": "<f4"}[dtype]))


def number(bits: str) -> int:
    return int(bits[::-1] or "0", 2)


def e4m3(code: int) -> np.float32:
    """One sign, four bits of exponent with bias 7, three of mantissa."""
    exponent, mantissa = code >> 3 & 15, code & 7
    size = (mantissa / 8 if exponent == 0 else 1 + mantissa / 8) * 2.0 ** (max(exponent, 1) - 7)
    return F32(-size if code >> 7 else size)


def rows(flat: list[Any], shape: tuple[int, int]) -> Matrix:
    out, columns = shape
    return [flat[i * columns : (i + 1) * columns] for i in range(out)]


def matrix(file: File, scheme: dict[str, Any], shape: tuple[int, int], name: str) -> Matrix:
    return KINDS[scheme["kind"]](file, scheme, shape, name)


def floating(file: File, scheme: dict[str, Any], shape: tuple[int, int], name: str) -> Matrix:
    return rows([F32(each) for each in file.floats(name, scheme["dtype"])], shape)


def affine(
    file: File,
    scheme: dict[str, Any],
    shape: tuple[int, int],
    name: str,
    mask: Matrix | None = None,
) -> Matrix:
    (out, columns), bits, size = shape, scheme["bits"], scheme["group_size"]
    groups = -(-columns // size)
    scale = matrix(file, scheme["scale"], (out, groups), f"{name}_scale")
    zero = rows([2 ** (bits - 1)] * (out * groups), (out, groups))
    if not scheme["symmetric"]:
        zero = rows(file.codes(f"{name}_zero", bits, out * groups), (out, groups))
    code = places(mask, shape, lambda count: file.codes(name, bits, count))
    return [
        [F32(code[i][j] - zero[i][j // size]) * scale[i][j // size] for j in range(columns)]
        for i in range(out)
    ]


def binary(
    file: File,
    scheme: dict[str, Any],
    shape: tuple[int, int],
    name: str,
    mask: Matrix | None = None,
) -> Matrix:
    (out, columns), size = shape, scheme["group_size"]
    groups = -(-columns // size) * (2 if scheme["apart"] else 1)
    group = [j // size for j in range(columns)]
    if scheme["apart"]:
        apart = file.codes(f"{name}_apart", 1, columns)
        group = [2 * (j // size) + apart[j] for j in range(columns)]
    signs = [places(mask, shape, lambda count: file.codes(name, 1, count))]
    for plane in range(1, scheme["planes"]):
        differ = flags(file, f"{name}_plane_{plane}", shape, mask)
        pairs = zip(signs[-1], differ, strict=True)
        signs.append([[a ^ b for a, b in zip(*pair, strict=True)] for pair in pairs])
    scales = [
        matrix(file, each, (out, groups), f"{name}_scale_{plane}")
        for plane, each in enumerate(scheme["scales"])
    ]
    total = rows([F32(0)] * (out * columns), shape)
    if scheme["mean"]:
        mean = matrix(file, scheme["mean"], (out, groups), f"{name}_mean")
        total = [[mean[i][group[j]] for j in range(columns)] for i in range(out)]
    for sign, scale in zip(signs, scales, strict=True):
        for i in range(out):
            for j in range(columns):
                value = sign[i][j] if scheme["unipolar"] else 2 * sign[i][j] - 1
                total[i][j] = total[i][j] + F32(value) * scale[i][group[j]]
    return total


def places(mask: Matrix | None, shape: tuple[int, int], read: Callable[[int], list[int]]) -> Matrix:
    """Put codes in all places, or only where the mask is set."""
    if mask is None:
        out, columns = shape
        return rows(read(out * columns), shape)
    codes = iter(read(sum(map(sum, mask))))
    return [[next(codes) if each else 0 for each in row] for row in mask]


def flags(file: File, name: str, shape: tuple[int, int], mask: Matrix | None) -> Matrix:
    if mask is None:
        return bitmap(file, name, shape)
    return places(mask, shape, lambda count: bitmap(file, name, (1, count))[0])


def codebook(file: File, scheme: dict[str, Any], shape: tuple[int, int], name: str) -> Matrix:
    (out, columns), size, flat = shape, scheme["group_size"], scheme.get("flat", False)
    groups = (1, -(-out * columns // size)) if flat else (out, -(-columns // size))
    scale = matrix(file, scheme["scale"], (1, 1) if scheme["shared"] else groups, f"{name}_scale")
    shift = matrix(file, scheme["shift"], groups, f"{name}_shift") if "shift" in scheme else None
    table = file.floats(f"{name}_table", "float32")
    (offset,) = file.floats(f"{name}_offset", "float32")
    code = rows(file.codes(name, scheme["bits"], out * columns), shape)

    def of_group(given: Matrix, i: int, j: int) -> np.float32:
        return F32(given[0][(i * columns + j) // size] if flat else given[i][j // size])

    def weight(i: int, j: int) -> np.float32:
        stretch = F32((scale[0][0] if scheme["shared"] else of_group(scale, i, j)) + offset)
        product = F32(table[code[i][j]] * stretch)
        return product if shift is None else F32(product + of_group(shift, i, j))

    return [[weight(i, j) for j in range(columns)] for i in range(out)]


def masked(file: File, scheme: dict[str, Any], shape: tuple[int, int], name: str) -> Matrix:
    mask = bitmap(file, name, shape)
    others = [[1 - each for each in row] for row in mask]
    chosen = affine(file, scheme["chosen"], shape, f"{name}_chosen", mask)
    rest = binary(file, scheme["rest"], shape, f"{name}_rest", others)
    return [
        [chosen[i][j] if mask[i][j] else rest[i][j] for j in range(shape[1])]
        for i in range(shape[0])
    ]


def mixed(file: File, scheme: dict[str, Any], shape: tuple[int, int], name: str) -> Matrix:
    (out, columns), size = shape, scheme["group_size"]
    width = max(1, (len(scheme["parts"]) - 1).bit_length())
    part = file.codes(name, width, -(-columns // size))
    owned = [
        [j for j in range(columns) if part[j // size] == k] for k in range(len(scheme["parts"]))
    ]
    whole = rows([F32(0)] * (out * columns), shape)
    for k, each in enumerate(scheme["parts"]):
        inside = matrix(file, each, (out, len(owned[k])), f"{name}_{k}")
        for i in range(out):
            for place, j in enumerate(owned[k]):
                whole[i][j] = inside[i][place]
    return whole


def reordered(file: File, scheme: dict[str, Any], shape: tuple[int, int], name: str) -> Matrix:
    inner = matrix(file, scheme["inner"], shape, name)
    order = file.codes(f"{name}_order", max(1, (shape[1] - 1).bit_length()), shape[1])
    return [[row[order.index(j)] for j in range(shape[1])] for row in inner]


def rotated(file: File, scheme: dict[str, Any], shape: tuple[int, int], name: str) -> Matrix:
    inner = np.array(matrix(file, scheme["inner"], shape, name), dtype=np.float64)
    (seed,) = struct.unpack("<q", file.bytes[f"{name}_seed"])
    left, right = orthogonal(shape[0], 2 * seed), orthogonal(shape[1], 2 * seed + 1)
    turned = (left.T @ inner @ right).astype(F32)
    return list(turned / np.array(file.floats(f"{name}_diagonal", "bfloat16")))


def orthogonal(size: int, sequence: int) -> np.ndarray[Any, Any]:
    """Return the matrix (size, size) of a sequence, written out."""
    small = max(each for each in range(1, math.isqrt(size) + 1) if size % each == 0)
    large = size // small
    drawn = splitmix(sequence)
    first = [next(drawn) for _ in range(size)]
    order = sorted(range(size), key=first.__getitem__)
    factors = []
    for each in (small, large):
        radius = np.array([next(drawn) for _ in range(each**2)]).reshape(each, each)
        angle = np.array([next(drawn) for _ in range(each**2)]).reshape(each, each)
        found, triangle = np.linalg.qr(np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle))
        factors.append(found * np.sign(np.diag(triangle)))
    whole: np.ndarray[Any, Any] = np.kron(*factors) @ np.eye(size)[order]
    return whole


def splitmix(sequence: int) -> Iterator[float]:
    state = sequence * 0x5851F42D4C957F2D % 2**63
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        yield (((z ^ z >> 31) >> 11) + 1) / 2**53


def bitmap(file: File, name: str, shape: tuple[int, int]) -> Matrix:
    bits, (out, columns) = file.bits(name), shape
    kind, bits = number(bits[:32]), bits[32:]
    if kind == 0:
        return rows([int(each) for each in bits[: out * columns]], shape)
    found = decoded(bits, out * columns)
    if kind == 1:
        return rows(found, shape)
    return [[found[j * out + i] for j in range(columns)] for i in range(out)]


def decoded(bits: str, count: int) -> list[int]:
    run, bits = number(bits[:32]), bits[32:]
    blocks = -(-count // 64)
    runs = -(-blocks // run)
    least, bits = part(bits, [7] * runs)
    width, bits = part(bits, [3] * runs)
    more, bits = part(bits, [width[block // run] for block in range(blocks)])
    ones = [least[block // run] + more[block] for block in range(blocks)]
    index, bits = part(bits, [(math.comb(64, each) - 1).bit_length() for each in ones])
    assert not bits
    found = [flag for pair in zip(index, ones, strict=True) for flag in block_of(*pair)]
    assert not any(found[count:])
    return found[:count]


def part(bits: str, widths: list[int]) -> tuple[list[int], str]:
    """Read fields that lie end to end, and drop the rest of their last word."""
    found, at = [], 0
    for width in widths:
        found.append(number(bits[at : at + width]))
        at += width
    return found, bits[-(-at // 32) * 32 :]


def block_of(index: int, ones: int) -> list[int]:
    block = [0] * 64
    for place in range(63, -1, -1):
        if ones and index >= math.comb(place, ones):
            block[place] = 1
            index -= math.comb(place, ones)
            ones -= 1
    return block


KINDS: dict[str, Callable[[File, dict[str, Any], tuple[int, int], str], Matrix]] = {
    "float": floating,
    "affine": affine,
    "binary": binary,
    "codebook": codebook,
    "masked": masked,
    "mixed": mixed,
    "reordered": reordered,
    "rotated": rotated,
}


def read(tensor: QuantizedTensor) -> Tensor:
    """Pack a tensor and read it by the specification."""
    file = File(FORMAT.pack("m", tensor))
    config = FORMAT.config({"m": tensor}, [])
    found = matrix(
        file, config["schemes"][config["modules"]["m"]["scheme"]], tensor.shape, "weight"
    )
    return torch.tensor(np.array(found, dtype=F32)).view(tensor.shape)


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (9, 130)], ids=str)
def test_the_specification_is_enough_to_read_every_kind(shape: tuple[int, int]) -> None:
    for tensor in made_tensors.every_kind(shape):
        weight = read(tensor)

        if isinstance(tensor, Rotated):  # numpy's factorization rounds in its own way
            torch.testing.assert_close(weight, tensor.dequantize(), rtol=1e-6, atol=1e-6)
        else:
            assert torch.equal(weight, tensor.dequantize())


def test_the_specification_is_enough_to_read_coded_bitmaps() -> None:
    torch.manual_seed(0)
    tensors = [made_tensors.masked((40, 130), share) for share in (0.03, 0.1, 0.97)]
    assert all(int(FORMAT.pack("m", each)["m.weight"][0]) for each in tensors)

    for tensor in tensors:
        assert torch.equal(read(tensor), tensor.dequantize())


def test_the_specification_describes_every_kind() -> None:
    text = SPECIFICATION.read_text()

    for kind, keys in SCHEME_KEYS.items():
        assert f"### {kind}\n" in text
        for key in keys:
            assert f'"{key}":' in text
