"""From the tensors of a hubq file to a weight: `hubq/formats/hubq.md` is the specification.

A scheme describes a module's weight as nested kinds; each kind's tensors are named by the path to
it. `unpacked` undoes the packing, `restored` computes the weight.
"""

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
    spread,
)
from hubq.runtime.pieces import in_pieces
from hubq.runtime.schemes import (
    FLOATS,
    ROOT,
    Scheme,
    Shape,
    Tensors,
    kind_of,
    take,
    take_bitmap,
    take_codes,
    take_flags,
    take_stream,
)
from hubq.runtime.unpacking import unpack_fields, words

Fields = dict[str, Any]  # of one kind, unpacked, with its "kind"


def dequantized(scheme: Scheme, tensors: Tensors, shape: Shape) -> Tensor:
    """Return the float32 weight (out, in) of a module, given its tensors by name in the module.

    Raises ValueError, with a text for people, for all that is not as the format wants it.
    """
    return restored(unpacked(scheme, tensors, shape))


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
    kind = kind_of(scheme, name)
    fields: Fields = UNPACKERS[kind](scheme, tensors, shape, name, where)
    return {"kind": kind, "shape": shape, **fields}


def restored(fields: Fields, dtype: torch.dtype = torch.float32) -> Tensor:
    """Compute the float32 matrix of what was unpacked, or what it rounds to in a dtype."""
    if fields["kind"] == "rotated":
        whole = restored(fields["inner"])
        return rotated_weight(whole, fields["diagonal"], fields["seed"]).to(dtype)
    device = next(each.device for each in fields.values() if isinstance(each, Tensor))
    return in_pieces(lambda rows: restored_rows(fields, rows), fields["shape"], device, dtype)


def restored_rows(fields: Fields, rows: slice) -> Tensor:
    """Compute some rows of the float32 matrix; of a rotated one each is made of all rows."""
    kind = fields["kind"]
    return restored(fields)[rows] if kind == "rotated" else RESTORERS[kind](fields, rows)


def _groups(columns: int, group_size: int) -> int:
    return -(-columns // group_size) if columns else 0


def _unpacked_float(
    scheme: Scheme, tensors: Tensors, shape: Shape, name: str, where: Tensor | None
) -> Fields:
    dtype = FLOATS.get(scheme["dtype"])
    if dtype is None:
        raise ValueError(f"the scheme of {name} has dtype {scheme['dtype']!r}")
    return {"values": take(tensors, name, shape, dtype)}


def _unpacked_affine(
    scheme: Scheme, tensors: Tensors, shape: Shape, name: str, where: Tensor | None
) -> Fields:
    bits, group_size = scheme["bits"], scheme["group_size"]
    inner = (shape[0], _groups(shape[1], group_size))
    zero = None
    if not scheme["symmetric"]:
        zero = take_stream(tensors, f"{name}_zero", bits, inner[0] * inner[1]).view(inner)
    return {
        "codes": take_codes(tensors, name, bits, shape, where),
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
    if len(scheme["scales"]) != scheme["planes"]:
        raise ValueError(f"{name} has {len(scheme['scales'])} scales of {scheme['planes']} planes")
    apart, groups = None, _groups(columns, group_size)
    if scheme["apart"]:
        apart, groups = take_stream(tensors, f"{name}_apart", 1, columns).bool(), 2 * groups
    planes = [take_codes(tensors, name, 1, shape, where).bool()]
    for number in range(1, scheme["planes"]):
        planes.append(planes[-1] ^ take_flags(tensors, f"{name}_plane_{number}", shape, where))
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
    flat, shift = scheme.get("flat", False), scheme.get("shift")
    out, columns = (1, shape[0] * shape[1]) if flat else shape
    groups = (out, _groups(columns, scheme["group_size"]))
    inner = (1, 1) if scheme["shared"] else groups
    table = take(tensors, f"{name}_table", (scheme["entries"],), torch.float32)
    codes = take_codes(tensors, name, scheme["bits"], shape, where)
    if codes.numel() and int(codes.max()) >= len(table):
        raise ValueError(f"{name} has codes beyond the {len(table)} entries of its table")
    return {
        "codes": codes,
        "table": table,
        "scale": unpacked(scheme["scale"], tensors, inner, f"{name}_scale"),
        "shift": None if shift is None else unpacked(shift, tensors, groups, f"{name}_shift"),
        "flat": flat,
        "offset": float(take(tensors, f"{name}_offset", (1,), torch.float32)),
        "bits": scheme["bits"],
        "group_size": scheme["group_size"],
    }


def _unpacked_masked(
    scheme: Scheme, tensors: Tensors, shape: Shape, name: str, where: Tensor | None
) -> Fields:
    kinds = [kind_of(scheme[each], f"{name}_{each}") for each in ("chosen", "rest")]
    if kinds != ["affine", "binary"]:
        raise ValueError(f"{name} chooses between other kinds than affine and binary")
    mask = take_bitmap(tensors, name, shape)
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
    part = take_stream(tensors, name, max(1, (len(schemes) - 1).bit_length()), groups)
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
    packed = take(tensors, f"{name}_order", (words(columns, bits),), torch.int32)
    order = unpack_fields(packed, torch.full((columns,), bits, device=packed.device))
    if not torch.equal(order.sort().values, torch.arange(columns, device=packed.device)):
        raise ValueError(f"{name}_order does not name each of {columns} columns once")
    return {"inner": unpacked(scheme["inner"], tensors, shape, name), "order": order}


def _unpacked_rotated(
    scheme: Scheme, tensors: Tensors, shape: Shape, name: str, where: Tensor | None
) -> Fields:
    return {
        "inner": unpacked(scheme["inner"], tensors, shape, name),
        "diagonal": take(tensors, f"{name}_diagonal", (shape[1],), *FLOATS.values()),
        "seed": int(take(tensors, f"{name}_seed", (1,), torch.int64)),
    }


def _restored_float(fields: Fields, rows: slice) -> Tensor:
    values: Tensor = fields["values"][rows]
    return values.float()


def _restored_affine(fields: Fields, rows: slice) -> Tensor:
    zero = None if fields["zero"] is None else fields["zero"][rows]
    scale = restored_rows(fields["scale"], rows)
    return affine_weight(fields["codes"][rows], scale, zero, fields["bits"], fields["group_size"])


def _restored_binary(fields: Fields, rows: slice) -> Tensor:
    signs, mean = fields["signs"][:, rows], fields["mean"]
    return binary_weight(
        signs,
        [restored_rows(each, rows) for each in fields["scales"]],
        None if mean is None else restored_rows(mean, rows),
        column_groups(signs.shape[2], fields["group_size"], fields["apart"], signs),
        unipolar=fields["unipolar"],
    )


def _restored_codebook(fields: Fields, rows: slice) -> Tensor:
    scale = _of_groups(fields, "scale", rows) + fields["offset"]
    shift = None if fields["shift"] is None else _of_groups(fields, "shift", rows)
    width = 1 if fields["flat"] else fields["group_size"]
    return codebook_weight(fields["codes"][rows], fields["table"], scale, width, shift)


def _of_groups(fields: Fields, key: str, rows: slice) -> Tensor:
    """Return a codebook's scales or shifts of some rows: one for all, a group's or a weight's."""
    if fields[key]["shape"] == (1, 1):
        return restored(fields[key])
    if fields["flat"]:
        return spread(restored(fields[key]), fields["group_size"], rows, fields["shape"])
    return restored_rows(fields[key], rows)


def _restored_masked(fields: Fields, rows: slice) -> Tensor:
    chosen, rest = (restored_rows(fields[side], rows) for side in ("chosen", "rest"))
    return torch.where(fields["mask"][rows], chosen, rest)


def _restored_mixed(fields: Fields, rows: slice) -> Tensor:
    parts = [restored_rows(each, rows) for each in fields["parts"]]
    return mixed_weight(parts, fields["part"], fields["group_size"])


def _restored_reordered(fields: Fields, rows: slice) -> Tensor:
    return reordered_weight(restored_rows(fields["inner"], rows), fields["order"])


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
    "float": _restored_float,
    "affine": _restored_affine,
    "binary": _restored_binary,
    "codebook": _restored_codebook,
    "masked": _restored_masked,
    "mixed": _restored_mixed,
    "reordered": _restored_reordered,
}
