"""From the tensors of a hubq file to a weight: `hubq/formats/hubq.md` is the specification.

A scheme describes a module's weight as nested kinds; each kind's tensors are named by the path to
it. `unpacked` undoes the packing, `restored` computes the weight.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hubq.runtime.formulas import (
    affine_weight,
    binary_weight,
    codebook_weight,
    column_groups,
    mixed_weight,
    reordered_weight,
    rotated_weight,
)
from hubq.runtime.unpacking import fields, unpack_bitmap, unpack_stream, words

FORMAT_VERSION = 1
ROOT = "weight"  # the name of a module's main tensor: never of the dense weight's shape
FLOATS = {
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}
SCHEME_KEYS = {
    "float": ("dtype",),
    "affine": ("bits", "group_size", "symmetric", "scale"),
    "binary": ("planes", "group_size", "unipolar", "apart", "scales", "mean"),
    "codebook": ("bits", "entries", "group_size", "shared", "scale"),
    "masked": ("chosen", "rest"),
    "mixed": ("group_size", "parts"),
    "reordered": ("inner",),
    "rotated": ("inner",),
}
RANGES = {"bits": (1, 8), "group_size": (1, 1 << 31), "planes": (1, 8), "entries": (1, 256)}

Scheme = Mapping[str, Any]
Tensors = Mapping[str, Tensor]
Fields = dict[str, Any]  # of one kind, unpacked, with its "kind"
Shape = tuple[int, int]


def dequantized(scheme: Scheme, tensors: Tensors, shape: Shape) -> Tensor:
    """Return the float32 weight (out, in) of a module, given its tensors by name in the module.

    Raises ValueError, with a text for people, for all that is not as the format wants it.
    """
    return restored(unpacked(scheme, tensors, shape))


def module_entry(config: Mapping[str, Any], module: str) -> tuple[Scheme, Shape]:
    """Return the scheme and the shape of a module by the repo's quantization_config."""
    require_version(config)
    entry = config.get("modules", {}).get(module)
    if entry is None:
        raise ValueError(f"quantization_config lists no module {module}")
    number, schemes = entry["scheme"], config["schemes"]
    if not 0 <= number < len(schemes):
        raise ValueError(f"{module} has scheme {number}, and quantization_config lists no such one")
    out, columns = entry["shape"]
    if min(out, columns) < 1:
        raise ValueError(f"{module} has the shape {entry['shape']}")
    return schemes[number], (int(out), int(columns))


def require_version(config: Mapping[str, Any]) -> None:
    """Raise ValueError for a version of the format that this reader does not know."""
    if config.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"this file is in version {config.get('version')} of the hubq format, and this reader "
            f"knows version {FORMAT_VERSION}: take a newer hubq, or its loader"
        )


def component_names(scheme: Scheme, name: str = ROOT) -> Iterator[str]:
    """Yield the names of all tensors that a module of a scheme has."""
    kind = _kind(scheme, name)
    if kind == "rotated":
        yield from component_names(scheme["inner"], name)
        yield from (f"{name}_diagonal", f"{name}_seed")
        return
    if kind == "reordered":
        yield from component_names(scheme["inner"], name)
        yield f"{name}_order"
        return
    yield name
    if kind == "affine" and not scheme["symmetric"]:
        yield f"{name}_zero"
    if kind == "codebook":
        yield from (f"{name}_table", f"{name}_offset")
    if kind == "binary":
        yield from (f"{name}_plane_{number}" for number in range(1, scheme["planes"]))
        if scheme["apart"]:
            yield f"{name}_apart"
    for path, each in _children(scheme):
        yield from component_names(each, f"{name}_{path}")


def _children(scheme: Scheme) -> Iterator[tuple[str, Scheme]]:
    """Yield the schemes inside of a scheme with the last part of their paths."""
    for key in ("scale", "mean", "chosen", "rest"):
        if scheme.get(key) is not None:
            yield key, scheme[key]
    for key, path in (("scales", "scale_{}"), ("parts", "{}")):
        for number, each in enumerate(scheme.get(key, ())):
            yield path.format(number), each


def unpacked(
    scheme: Scheme,
    tensors: Tensors,
    shape: Shape,
    name: str = ROOT,
    where: Tensor | None = None,
) -> Fields:
    """Undo the packing of one kind and of what is inside of it.

    `where` (out, in) bool tells which weights have codes and signs; elsewhere these are zero.
    """
    kind = _kind(scheme, name)
    assert kind in UNPACKERS
    fields: Fields = UNPACKERS[kind](scheme, tensors, shape, name, where)
    return {"kind": kind, **fields}


def restored(fields: Fields) -> Tensor:
    """Compute the float32 matrix of what was unpacked."""
    kind = fields["kind"]
    if kind == "float":
        return fields["values"].float()  # type: ignore[no-any-return]
    return RESTORERS[kind](fields)


def _kind(scheme: Scheme, name: str) -> str:
    kind = scheme.get("kind")
    if kind not in SCHEME_KEYS:
        known = ", ".join(SCHEME_KEYS)
        raise ValueError(f"{name} is of the kind {kind!r}; this reader knows {known}")
    missing = [key for key in SCHEME_KEYS[kind] if key not in scheme]
    if missing:
        raise ValueError(f"the scheme of {name} lacks {missing[0]}")
    for key, (least, most) in RANGES.items():
        value = scheme.get(key, least)
        if not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"the scheme of {name} has {key} {value!r}")
    return str(kind)


def _take(tensors: Tensors, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
    """Return a tensor, which must be there and have this shape."""
    if name not in tensors:
        raise ValueError(f"the tensor {name} is missing")
    found = tensors[name]
    if shape is not None and tuple(found.shape) != shape:
        raise ValueError(f"{name} has the shape {tuple(found.shape)} instead of {shape}")
    return found


def _stream(tensors: Tensors, name: str, bits: int, count: int) -> Tensor:
    try:
        return unpack_stream(_take(tensors, name), bits, count)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _bitmap(tensors: Tensors, name: str, shape: Shape) -> Tensor:
    try:
        return unpack_bitmap(_take(tensors, name), shape)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _codes(
    tensors: Tensors, name: str, bits: int, shape: Shape, where: Tensor | None
) -> Tensor:  # (out, in) uint8
    """Read codes; where only some weights have them, those of these lie end to end."""
    out, columns = shape
    if where is None:
        return _stream(tensors, name, bits, out * columns).view(shape)
    found = _stream(tensors, name, bits, int(where.sum()))
    codes = torch.zeros(shape, dtype=torch.uint8, device=found.device)
    codes[where] = found
    return codes


def _flags(tensors: Tensors, name: str, shape: Shape, where: Tensor | None) -> Tensor:
    """Read a bitmap; where only some weights have a flag, those of these are its one row."""
    if where is None:
        return _bitmap(tensors, name, shape)
    flags = torch.zeros_like(where)
    flags[where] = _bitmap(tensors, name, (1, int(where.sum())))[0]
    return flags


def _groups(columns: int, group_size: int) -> int:
    return -(-columns // group_size) if columns else 0


def _unpacked_float(
    scheme: Scheme, tensors: Tensors, shape: Shape, name: str, where: Tensor | None
) -> Fields:
    found = _take(tensors, name, shape)
    if scheme["dtype"] not in FLOATS or found.dtype != FLOATS[scheme["dtype"]]:
        raise ValueError(f"{name} is {found.dtype} instead of {scheme['dtype']}")
    return {"values": found}


def _unpacked_affine(
    scheme: Scheme, tensors: Tensors, shape: Shape, name: str, where: Tensor | None
) -> Fields:
    bits, group_size = scheme["bits"], scheme["group_size"]
    inner = (shape[0], _groups(shape[1], group_size))
    zero = None
    if not scheme["symmetric"]:
        zero = _stream(tensors, f"{name}_zero", bits, inner[0] * inner[1]).view(inner)
    return {
        "codes": _codes(tensors, name, bits, shape, where),
        "scale": unpacked(scheme["scale"], tensors, inner, f"{name}_scale"),
        "zero": zero,
        "bits": bits,
        "group_size": group_size,
    }


def _unpacked_binary(
    scheme: Scheme, tensors: Tensors, shape: Shape, name: str, where: Tensor | None
) -> Fields:
    out, columns = shape
    group_size, mean = scheme["group_size"], scheme["mean"]
    apart, groups = None, _groups(columns, group_size)
    if scheme["apart"]:
        apart, groups = _stream(tensors, f"{name}_apart", 1, columns).bool(), 2 * groups
    planes = [_codes(tensors, name, 1, shape, where).bool()]
    for number in range(1, scheme["planes"]):
        planes.append(planes[-1] ^ _flags(tensors, f"{name}_plane_{number}", shape, where))
    return {
        "signs": torch.stack(planes),
        "scales": [
            unpacked(each, tensors, (out, groups), f"{name}_scale_{number}")
            for number, each in enumerate(scheme["scales"])
        ],
        "mean": None if mean is None else unpacked(mean, tensors, (out, groups), f"{name}_mean"),
        "apart": apart,
        "group_size": group_size,
        "unipolar": scheme["unipolar"],
    }


def _unpacked_codebook(
    scheme: Scheme, tensors: Tensors, shape: Shape, name: str, where: Tensor | None
) -> Fields:
    inner = (1, 1) if scheme["shared"] else (shape[0], _groups(shape[1], scheme["group_size"]))
    table = _take(tensors, f"{name}_table", (scheme["entries"],))
    codes = _codes(tensors, name, scheme["bits"], shape, where)
    if codes.numel() and int(codes.max()) >= len(table):
        raise ValueError(f"{name} has codes beyond the {len(table)} entries of its table")
    return {
        "codes": codes,
        "table": table,
        "scale": unpacked(scheme["scale"], tensors, inner, f"{name}_scale"),
        "offset": float(_take(tensors, f"{name}_offset", (1,))),
        "bits": scheme["bits"],
        "group_size": scheme["group_size"],
    }


def _unpacked_masked(
    scheme: Scheme, tensors: Tensors, shape: Shape, name: str, where: Tensor | None
) -> Fields:
    mask = _bitmap(tensors, name, shape)
    return {
        "mask": mask,
        "chosen": unpacked(scheme["chosen"], tensors, shape, f"{name}_chosen", mask),
        "rest": unpacked(scheme["rest"], tensors, shape, f"{name}_rest", ~mask),
    }


def _unpacked_mixed(
    scheme: Scheme, tensors: Tensors, shape: Shape, name: str, where: Tensor | None
) -> Fields:
    (out, columns), schemes, group_size = shape, scheme["parts"], scheme["group_size"]
    groups = _groups(columns, group_size)
    part = _stream(tensors, name, max(1, (len(schemes) - 1).bit_length()), groups)
    if groups and int(part.max()) >= len(schemes):
        raise ValueError(f"{name} names a part {int(part.max())} of {len(schemes)}")
    owner = part[torch.arange(columns, device=part.device) // group_size]
    widths = torch.bincount(owner.long(), minlength=len(schemes)).tolist()
    return {
        "parts": [
            unpacked(each, tensors, (out, widths[number]), f"{name}_{number}")
            for number, each in enumerate(schemes)
        ],
        "part": part,
        "group_size": group_size,
    }


def _unpacked_reordered(
    scheme: Scheme, tensors: Tensors, shape: Shape, name: str, where: Tensor | None
) -> Fields:
    columns = shape[1]
    bits = max(1, (columns - 1).bit_length())
    packed = _take(tensors, f"{name}_order", (words(columns, bits),))
    order = fields(packed, torch.full((columns,), bits, device=packed.device))
    if not torch.equal(order.sort().values, torch.arange(columns, device=packed.device)):
        raise ValueError(f"{name}_order does not name each of {columns} columns once")
    return {"inner": unpacked(scheme["inner"], tensors, shape, name), "order": order}


def _unpacked_rotated(
    scheme: Scheme, tensors: Tensors, shape: Shape, name: str, where: Tensor | None
) -> Fields:
    return {
        "inner": unpacked(scheme["inner"], tensors, shape, name),
        "diagonal": _take(tensors, f"{name}_diagonal", (shape[1],)),
        "seed": int(_take(tensors, f"{name}_seed", (1,))),
    }


def _restored_affine(fields: Fields) -> Tensor:
    scale = restored(fields["scale"])
    return affine_weight(
        fields["codes"], scale, fields["zero"], fields["bits"], fields["group_size"]
    )


def _restored_binary(fields: Fields) -> Tensor:
    signs, mean = fields["signs"], fields["mean"]
    return binary_weight(
        signs,
        [restored(each) for each in fields["scales"]],
        None if mean is None else restored(mean),
        column_groups(signs.shape[2], fields["group_size"], fields["apart"], signs),
        unipolar=fields["unipolar"],
    )


def _restored_codebook(fields: Fields) -> Tensor:
    scale = restored(fields["scale"]) + fields["offset"]
    return codebook_weight(fields["codes"], fields["table"], scale, fields["group_size"])


def _restored_masked(fields: Fields) -> Tensor:
    return torch.where(fields["mask"], restored(fields["chosen"]), restored(fields["rest"]))


def _restored_mixed(fields: Fields) -> Tensor:
    parts = [restored(each) for each in fields["parts"]]
    return mixed_weight(parts, fields["part"], fields["group_size"])


def _restored_reordered(fields: Fields) -> Tensor:
    return reordered_weight(restored(fields["inner"]), fields["order"])


def _restored_rotated(fields: Fields) -> Tensor:
    return rotated_weight(restored(fields["inner"]), fields["diagonal"], fields["seed"])


UNPACKERS = {
    "float": _unpacked_float,
    "affine": _unpacked_affine,
    "binary": _unpacked_binary,
    "codebook": _unpacked_codebook,
    "masked": _unpacked_masked,
    "mixed": _unpacked_mixed,
    "reordered": _unpacked_reordered,
    "rotated": _unpacked_rotated,
}
RESTORERS = {
    "affine": _restored_affine,
    "binary": _restored_binary,
    "codebook": _restored_codebook,
    "masked": _restored_masked,
    "mixed": _restored_mixed,
    "reordered": _restored_reordered,
    "rotated": _restored_rotated,
}
