"""The head of a GGUF file, bounded and checked before anything is built from it.

The layout is a magic number, a version and two counts, then the metadata, then a name, a shape, a
type and a place for each tensor, then their data, each at a multiple of the alignment. The gguf
library believes all of these numbers: a count of a billion takes it hours, a length of a string
all of a file. Here nothing is read that the file has no bytes for, and tensors lie as llama.cpp
demands: one behind the other.
"""

import math
import struct
from collections.abc import Mapping
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, NamedTuple

from hubq.errors import UserError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
STRING, ARRAY = 8, 9
NUMBERS = "BbHhIif?__Qqd"  # struct's codes by the number of a type; 8 and 9 are the two above
MOST_KEYS = 1 << 16
MOST_TENSORS = 1 << 20
MOST_ELEMENTS = 1 << 22  # of a list: vocabularies have some 200,000 tokens
LONGEST_NAME = 1 << 16
LONGEST_STRING = 1 << 24
MOST_DIMENSIONS = 4
LARGEST = 1 << 40  # weights in a tensor


class GgufTensor(NamedTuple):
    """One tensor as its file's head describes it."""

    path: Path
    kind: int  # of GGMLQuantizationType
    shape: tuple[int, ...]  # as torch has it: rows first
    begin: int  # bytes in the file
    end: int


class GgufHeader(NamedTuple):
    """What a GGUF file says of itself."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]
    plain: tuple[bytes, ...]  # the metadata's entries as they lie there, without lists
    alignment: int


class _Cursor:
    """A place in the bytes of a file, moved on by each reading; ValueError behind the end."""

    def __init__(self, content: mmap) -> None:
        self.content = content
        self.place = 0

    def number(self, code: str) -> Any:  # noqa: ANN401 - int, float or bool
        size = struct.calcsize(f"<{code}")
        (value,) = struct.unpack(f"<{code}", self.bytes(size))
        return value

    def bytes(self, count: int) -> bytes:
        if count > len(self.content) - self.place:
            raise ValueError(f"it ends inside the value that begins at byte {self.place:,}")
        self.place += count
        return self.content[self.place - count : self.place]

    def text(self, longest: int) -> str:
        length = self.number("Q")
        if length > longest:
            raise ValueError(f"a text at byte {self.place:,} claims {length:,} bytes")
        return self.bytes(length).decode()

    def value(self, kind: int) -> Any:  # noqa: ANN401 - whatever the metadata holds
        if kind == STRING:
            return self.text(LONGEST_STRING)
        if kind == ARRAY:
            inner, count = self.number("I"), self.number("Q")
            if inner == ARRAY or count > MOST_ELEMENTS:
                raise ValueError(f"a list at byte {self.place:,} claims {count:,} elements")
            return [self.value(inner) for _ in range(count)]
        if kind >= len(NUMBERS):
            raise ValueError(f"the type {kind} at byte {self.place:,} is not a GGUF type")
        return self.number(NUMBERS[kind])


def read_header(path: Path) -> GgufHeader:
    """Read a file's metadata and where its tensors lie; raise UserError for a damaged file.

    A file is read once while it stays as it is: a vocabulary takes a fifth of a second. A model can
    lie in several, which are looked at together again and again.
    """
    found = path.stat()
    return _read_once(path, found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=32)
def _read_once(path: Path, inode: int, size: int, modified: int) -> GgufHeader:
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            _require_version(path, content)
            return _read(path, content)
    except (ValueError, struct.error) as error:  # an empty file can't be mapped: a ValueError too
        raise UserError(
            f"{path} is damaged, truncated or not a GGUF file: {error}. Download it again"
        ) from error


def _require_version(path: Path, content: mmap) -> None:
    if content[:4] != MAGIC:
        raise ValueError("it doesn't begin with GGUF")
    (version,) = struct.unpack("<I", content[4:8])
    if version and version % (1 << 16) == 0:
        raise UserError(
            f"{path} is a big-endian file, which transformers does not read: convert it with "
            "gguf-convert-endian from the gguf package"
        )
    if version not in VERSIONS:
        raise UserError(
            f"{path} is GGUF version {version}, and hubq reads {VERSIONS[0]} and {VERSIONS[1]}; "
            "look for a newer file of the same model"
        )


def _read(path: Path, content: mmap) -> GgufHeader:
    cursor = _Cursor(content)
    cursor.place = 8
    count, keys = cursor.number("Q"), cursor.number("Q")
    if count > MOST_TENSORS or keys > MOST_KEYS:
        raise ValueError(f"it claims {count:,} tensors and {keys:,} keys")
    metadata: dict[str, Any] = {}
    plain: list[bytes] = []
    for _ in range(keys):
        begin = cursor.place
        key, kind = cursor.text(LONGEST_NAME), cursor.number("I")
        if key in metadata:
            raise ValueError(f"it has {key} twice")
        metadata[key] = cursor.value(kind)
        if kind != ARRAY:
            plain.append(content[begin : cursor.place])
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"its alignment is {alignment}")
    tensors = _tensors(path, cursor, count, alignment)
    return GgufHeader(path, metadata, tensors, tuple(plain), alignment)


def _tensors(path: Path, cursor: _Cursor, count: int, alignment: int) -> dict[str, GgufTensor]:
    """Read where the tensors lie, and that they do so without gap or overlap."""
    entries = [_entry(cursor) for _ in range(count)]
    data = cursor.place + -cursor.place % alignment
    found: dict[str, GgufTensor] = {}
    place = data
    for name, shape, kind, offset in entries:
        if name in found:
            raise ValueError(f"it has the tensor {name} twice")
        if data + offset != place:
            raise ValueError(f"{name} begins at {offset:,}, not at {place - data:,}")
        end = place + _bytes(name, shape, kind)
        if end > len(cursor.content):
            raise ValueError(f"{name} ends at byte {end:,} of {len(cursor.content):,}")
        found[name] = GgufTensor(path, kind, shape, place, end)
        place = end + -end % alignment
    return found


def _entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Read a tensor's name, its shape as torch has it, its type and its place."""
    name, dimensions = cursor.text(LONGEST_NAME), cursor.number("I")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise ValueError(f"{name} has {dimensions} dimensions")
    shape = tuple(reversed([cursor.number("Q") for _ in range(dimensions)]))
    if not 1 <= math.prod(shape) <= LARGEST:
        raise ValueError(f"{name} has the shape {shape}")
    return name, shape, cursor.number("I"), cursor.number("Q")


def _bytes(name: str, shape: tuple[int, ...], kind: int) -> int:
    """Count what a tensor takes."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if kind not in set(GGMLQuantizationType):
        raise ValueError(f"{name} is of type {kind}, which is not a GGUF type")
    weights, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    if shape[-1] % weights:
        raise ValueError(f"rows of {shape[-1]} in {name} don't fill whole blocks of {weights}")
    return math.prod(shape) // weights * size
