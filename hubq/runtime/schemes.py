"""What config.json says of a hubq repo, and the tensors that it calls for, each as it must be."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hubq.runtime.headers import DTYPES
from hubq.runtime.unpacking import unpack_bitmap, unpack_stream

VERSIONS = (1, 2)
FORMAT_VERSION = VERSIONS[-1]  # the newest
SINCE_TWO = ("flat", "shift")  # keys of a codebook that an older reader would pass over
ROOT = "weight"  # the name of a module's main tensor: never of the dense weight's shape
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
SWITCHES = ("symmetric", "unipolar", "apart", "shared", "flat")
FLOATS = {
    str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values() if dtype.is_floating_point
}

Scheme = Mapping[str, Any]
Shape = tuple[int, int]
Tensors = Mapping[str, Tensor]


def module_entry(config: Mapping[str, Any], module: str) -> tuple[Scheme, Shape]:
    """Return the scheme and the shape of a module by the repo's quantization_config."""
    require_version(config)
    modules, schemes = config.get("modules"), config.get("schemes")
    entry = modules.get(module) if isinstance(modules, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(schemes, list | tuple):
        raise ValueError(f"quantization_config lists no module {module}")
    number, shape = entry.get("scheme"), entry.get("shape")
    if type(number) is not int or not 0 <= number < len(schemes):
        raise ValueError(f"{module} has scheme {number}, and quantization_config lists no such one")
    sizes = list(shape) if isinstance(shape, list | tuple) else []
    if len(sizes) != 2 or any(type(each) is not int or not 0 < each < 1 << 31 for each in sizes):
        raise ValueError(f"{module} has the shape {shape}")
    return schemes[number], (sizes[0], sizes[1])


def require_version(config: Mapping[str, Any]) -> None:
    """Raise ValueError for a version of the format that this reader does not know."""
    if config.get("version") not in VERSIONS:
        raise ValueError(
            f"this file is in version {config.get('version')} of the hubq format, and this reader "
            f"knows versions {' and '.join(map(str, VERSIONS))}: take a newer hubq, or its loader"
        )


def component_names(scheme: Scheme, name: str = ROOT) -> Iterator[str]:
    """Yield the names of all tensors that a module of a scheme has."""
    kind = kind_of(scheme, name)
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
    for key in ("scale", "shift", "mean", "chosen", "rest"):
        if scheme.get(key) is not None:
            yield key, scheme[key]
    for key, path in (("scales", "scale_{}"), ("parts", "{}")):
        for number, each in enumerate(scheme.get(key, ())):
            yield path.format(number), each


def kind_of(scheme: Scheme, name: str) -> str:
    """Return the kind of a scheme; raise ValueError for one that is not known or not whole."""
    kind = scheme.get("kind") if isinstance(scheme, Mapping) else scheme
    if not isinstance(kind, str) or kind not in SCHEME_KEYS:
        known = ", ".join(SCHEME_KEYS)
        raise ValueError(f"{name} is of the kind {kind!r}; this reader knows {known}")
    missing = [key for key in SCHEME_KEYS[kind] if key not in scheme]
    if missing:
        raise ValueError(f"the scheme of {name} lacks {missing[0]}")
    for key, (least, most) in RANGES.items():
        value = scheme.get(key, least)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"the scheme of {name} has {key} {value!r}")
    for key in ("scales", "parts"):
        if not isinstance(scheme.get(key, []), list | tuple):
            raise ValueError(f"the scheme of {name} has no list as {key}")
    odd = [key for key in SWITCHES if not isinstance(scheme.get(key, False), bool)]
    if odd:
        raise ValueError(f"the scheme of {name} has {odd[0]} {scheme[odd[0]]!r}")
    return kind


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
