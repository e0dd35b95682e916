"""What a safetensors header says, believed only once it is as the format's specification wants it.

A file is eight bytes of length, a JSON header, and the data back to back: the first tensor begins
at 0, each at the end of the one before, and the last ends with the file. So a header that is moved,
overlaps itself or leaves a hole would read as other weights, and is refused.
"""

import json
import math
import stat
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hubq.errors import UserError
from hubq.runtime.headers import DTYPES as PACKED

MAX_HEADER = 100_000_000  # bytes; the library's own limit
MAX_COUNT = 1 << 63
METADATA = "__metadata__"
FIELDS = ("dtype", "shape", "data_offsets")
DTYPES = {
    **PACKED,
    "F64": torch.float64,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E8M0": torch.float8_e8m0fnu,
}


class TensorInfo(NamedTuple):
    """Where a tensor lies, known from its file's header alone."""

    file: str
    dtype: str  # as safetensors spells it: BF16, F16, F32, I32, ...
    shape: tuple[int, ...]
    begin: int  # byte offsets in the file
    end: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Read the header of a file; raise UserError for a file that is not whole and regular."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise UserError(f"{path} is not a regular file, so it can't hold weights")
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(status.st_size - 8, MAX_HEADER):
                raise ValueError("its header is longer than the file, or than 100 MB")
            infos = parse_header(file.read(length), path.name, begin=8 + length)
    except (ValueError, RecursionError, struct.error) as error:
        raise UserError(f"{path} is damaged or not a safetensors file: {error}") from error
    _require_end(path, max((info.end for info in infos.values()), default=8 + length))
    return infos


def _require_end(path: Path, end: int) -> None:
    """Refuse a file that ends before or after its last tensor."""
    size = path.stat().st_size
    if end > size:
        raise UserError(
            f"{path} is truncated: its header promises {end:,} bytes and it has {size:,}. "
            "Download it again."
        )
    if end < size:
        raise UserError(
            f"{path} is damaged: {size - end:,} bytes follow after its last tensor. "
            "Download it again."
        )


def parse_header(
    raw: bytes, file: str, begin: int
) -> dict[str, TensorInfo]:  # begin: of the data, in the file
    """Turn the JSON of a safetensors header into tensor infos; raise ValueError for another."""
    if not raw.startswith(b"{"):
        raise ValueError("its header is not a JSON object")
    entries = json.loads(
        raw.decode(), object_pairs_hook=_without_repetition, parse_constant=_no_number
    )
    _require_texts(entries.pop(METADATA, {}))
    "".join(entries).encode()  # half a surrogate is no name: UnicodeEncodeError is a ValueError
    return tensor_infos(entries, file, begin)


def tensor_infos(entries: Mapping[str, Any], file: str, begin: int = 0) -> dict[str, TensorInfo]:
    """Turn the entries of a header into tensor infos; raise ValueError for what can't be.

    An entry has dtype, shape and data_offsets, and all together fill the data without a gap.
    """
    infos = {name: _info(name, entry, file) for name, entry in entries.items()}
    _require_back_to_back(infos)
    return {
        name: info._replace(begin=begin + info.begin, end=begin + info.end)
        for name, info in infos.items()
    }


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((repeated, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"its header has {_short(repeated)} twice")
    return found


def _no_number(constant: str) -> None:
    raise ValueError(f"its header has {constant}, which is not JSON")


def _require_texts(metadata: object) -> None:
    """Raise ValueError unless metadata are texts under names."""
    if not isinstance(metadata, dict) or not all(
        isinstance(each, str) for each in metadata.values()
    ):
        raise ValueError(f"its {METADATA} is not an object of strings")
    "".join([*metadata, *metadata.values()]).encode()


def _info(name: str, entry: object, file: str) -> TensorInfo:
    dtype, shape, offsets = _fields(name, entry)
    if dtype not in DTYPES:
        raise ValueError(f"dtype {_short(dtype)} of {_short(name)} is not one that hubq reads")
    begin, end = offsets
    if end - begin != math.prod(shape) * DTYPES[dtype].itemsize:
        raise ValueError(f"{end - begin} bytes of {_short(name)} can't hold {shape} of {dtype}")
    return TensorInfo(file, dtype, shape, begin, end)


def _fields(name: str, entry: object) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """Return dtype, shape and the two offsets of an entry, whose JSON may be of any type."""
    found = entry if isinstance(entry, Mapping) else {}
    dtype, shape = found.get("dtype"), _counts(found.get("shape"))
    offsets = _counts(found.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or offsets is None or len(offsets) != 2:
        raise ValueError(f"{_short(name)} has no dtype, shape and data_offsets in its header")
    if len(found) > len(FIELDS):
        raise ValueError(f"{_short(name)} has more than {', '.join(FIELDS)} in its header")
    if math.prod(each or 1 for each in shape) >= MAX_COUNT:
        raise ValueError(f"{_short(name)} has an impossible shape")
    return dtype, shape, offsets


def _counts(value: object) -> tuple[int, ...] | None:
    """Return a list of whole numbers from 0 to 2^63 as a tuple, and None for all else."""
    if not isinstance(value, (list, tuple)):
        return None
    whole = all(type(each) is int and 0 <= each < MAX_COUNT for each in value)
    return tuple(value) if whole else None


def _require_back_to_back(infos: Mapping[str, TensorInfo]) -> None:
    """Raise ValueError unless the tensors follow one another from 0 on."""
    place = 0
    for name, info in sorted(infos.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != place:
            how = "overlaps another tensor" if info.begin < place else "leaves a gap before it"
            raise ValueError(f"{_short(name)} begins at {info.begin} instead of {place}: it {how}")
        place = info.end


def _short(text: str) -> str:
    return repr(text) if len(text) <= 100 else f"{text[:97]!r}..."
