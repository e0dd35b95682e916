"""How representations lie in a hubq file: their scheme, their tensors, and back.

The way back only names what `hubq/runtime/reading.py` unpacks: there is one reader.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hubq.machine.device import dtype_name
from hubq.runtime.reading import Fields
from hubq.runtime.schemes import FORMAT_VERSION, ROOT, SINCE_TWO, VERSIONS
from hubq.tensors import Affine, Binary, Codebook, Masked, Mixed, Reordered, Rotated, Values
from hubq.tensors.packing import bitmap_words, pack_bitmap, pack_fields, pack_stream, words

Named = Iterator[tuple[str, Tensor]]


def scheme(given: Values) -> dict[str, Any]:
    """Describe a representation as far as it is known without data."""
    match given:
        case Tensor():
            return {"kind": "float", "dtype": dtype_name(given.dtype)}
        case Affine():
            own = {"bits": given.bits, "group_size": given.group_size}
            kind = {"kind": "affine", **own, "symmetric": given.symmetric}
            return {**kind, "scale": scheme(given.scale)}
        case Binary():
            return {
                "kind": "binary",
                "planes": len(given.signs),
                "group_size": given.group_size,
                "unipolar": given.unipolar,
                "apart": given.apart is not None,
                "scales": [scheme(each) for each in given.scale],
                "mean": None if given.mean is None else scheme(given.mean),
            }
        case Codebook():
            return {
                "kind": "codebook",
                "bits": given.bits,
                "entries": given.table.numel(),
                "group_size": given.group_size,
                "shared": given.shared,
                "scale": scheme(given.scale),
                **_since_two(given),
            }
        case Masked():
            return {"kind": "masked", "chosen": scheme(given.chosen), "rest": scheme(given.rest)}
        case Mixed():
            parts = [scheme(each) for each in given.parts]
            return {"kind": "mixed", "group_size": given.group_size, "parts": parts}
        case Reordered():
            return {"kind": "reordered", "inner": scheme(given.inner)}
        case Rotated():
            return {"kind": "rotated", "inner": scheme(given.inner)}
    raise AssertionError(f"no layout for {type(given).__name__}")


def _since_two(given: Codebook) -> dict[str, Any]:
    """Describe what a codebook may have since version 2; files without it are of version 1."""
    flat = {"flat": True} if given.flat else {}
    return flat if given.shift is None else {**flat, "shift": scheme(given.shift)}


def version(described: object) -> int:
    """Return the first version of the format that knows all of a scheme, or of several."""
    if isinstance(described, dict):
        own = FORMAT_VERSION if described.keys() & set(SINCE_TWO) else VERSIONS[0]
        return max(own, version(list(described.values())))
    if isinstance(described, list):
        return max(map(version, described), default=VERSIONS[0])
    return VERSIONS[0]


def components(given: Values, name: str = ROOT) -> Named:
    """Yield the tensors of a representation by name, also of one without data."""
    match given:
        case Tensor():
            yield name, given.contiguous()
        case Affine() | Codebook():
            yield name, pack_stream(given.codes, given.bits)
            yield from _beside_codes(given, name)
        case Binary():
            yield from _signs(given, name, None, given.signs[0].numel())
            yield from _beside_signs(given, name)
        case Masked():
            yield from _masked(given, name)
        case Mixed():
            yield name, pack_stream(given.part, given.name_bits)
            for number, each in enumerate(given.parts):
                yield from components(each, f"{name}_{number}")
        case Reordered():
            yield from components(given.inner, name)
            yield f"{name}_order", _order(given)
        case Rotated():
            yield from components(given.inner, name)
            yield f"{name}_diagonal", given.diagonal.contiguous()
            yield f"{name}_seed", torch.tensor([given.seed])


def _beside_codes(given: Affine | Codebook, name: str) -> Named:
    yield from components(given.scale, f"{name}_scale")
    if isinstance(given, Codebook):
        yield f"{name}_table", given.table.contiguous()
        yield f"{name}_offset", torch.tensor([given.offset])
        if given.shift is not None:
            yield from components(given.shift, f"{name}_shift")
    elif given.zero is not None:
        yield f"{name}_zero", pack_stream(given.zero, given.bits)


def _order(given: Reordered) -> Tensor:
    bits, columns = given.place_bits, given.shape[1]
    if given.order.is_meta:
        return torch.empty(words(columns, bits), dtype=torch.int32, device="meta")
    return pack_fields(given.order, torch.full_like(given.order, bits))


def _signs(given: Binary, name: str, where: Tensor | None, count: int) -> Named:
    """Yield the first plane, and where each later one differs from the one before."""
    first = given.signs[0]
    yield name, _packed(first if where is None else _those(first, where, count), 1)
    for number, each in enumerate(given.differences(where, count), start=1):
        ones = None if given.changes is None else round(given.changes * count)
        yield f"{name}_plane_{number}", _bitmap(each, ones)


def _beside_signs(given: Binary, name: str) -> Named:
    for number, each in enumerate(given.scale):
        yield from components(each, f"{name}_scale_{number}")
    if given.mean is not None:
        yield from components(given.mean, f"{name}_mean")
    if given.apart is not None:
        yield f"{name}_apart", _packed(given.apart, 1)


def _masked(given: Masked, name: str) -> Named:
    """Yield the bitmap, and of each side only the codes and signs that count."""
    yield name, _bitmap(given.mask, given.count)
    codes = _those(given.chosen.codes, given.mask, given.count)
    yield f"{name}_chosen", _packed(codes, given.chosen.bits)
    yield from _beside_codes(given.chosen, f"{name}_chosen")
    rest = given.mask.numel() - given.count
    yield from _signs(given.rest, f"{name}_rest", ~given.mask, rest)
    yield from _beside_signs(given.rest, f"{name}_rest")


def _those(codes: Tensor, where: Tensor, count: int) -> Tensor:
    """Return the codes at these places end to end; without data, as many as there will be."""
    return codes.new_empty(count) if where.is_meta else codes.masked_select(where)


def _packed(codes: Tensor, bits: int) -> Tensor:
    return pack_stream(codes.to(torch.uint8), bits)


def _bitmap(flags: Tensor, ones: int | None) -> Tensor:
    if flags.is_meta:
        length = bitmap_words(flags, ones)
        return torch.empty(length, dtype=torch.int32, device="meta")
    return pack_bitmap(flags)


def rebuilt(fields: Fields) -> Any:  # noqa: ANN401 - a representation or a matrix of floats
    """Make the representation of what the reader has unpacked."""
    given: dict[str, Any] = {
        key: _rebuilt_inside(value) for key, value in fields.items() if key not in ("kind", "shape")
    }
    match fields["kind"]:
        case "float":
            return given["values"]
        case "affine":
            return Affine(**given)
        case "binary":
            return Binary(scale=tuple(given.pop("scales")), **given)
        case "codebook":
            return Codebook(**given)
        case "masked":
            return Masked(**given, count=int(given["mask"].sum()))
        case "mixed":
            return Mixed(parts=tuple(given.pop("parts")), **given)
        case "reordered":
            return Reordered(**given)
    return Rotated(**given)


def _rebuilt_inside(value: object) -> object:
    if isinstance(value, dict):
        return rebuilt(value)
    if isinstance(value, list):
        return [rebuilt(each) for each in value]
    return value
