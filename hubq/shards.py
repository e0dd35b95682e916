"""Safetensors folders, read tensor by tensor and written as a stream.

The library reads and writes whole dictionaries; a 70B model needs one tensor at a time, and a
header that can be trusted before hours of work start. The layout is eight bytes of length, a JSON
header, and the data back to back.
"""

import json
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.record import write_atomically

INDEX = "model.safetensors.index.json"
PIECE = 1 << 24  # bytes that are held while a tensor is copied or looked through
_MAX_HEADER = 100_000_000
_DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_SPELLED = {dtype: name for name, dtype in _DTYPES.items()}


class TensorInfo(NamedTuple):
    """Where a tensor lies, known from its file's header alone."""

    file: str
    dtype: str  # as safetensors spells it: BF16, F16, F32, I32, ...
    shape: tuple[int, ...]
    begin: int  # byte offsets in the file
    end: int


class Weights:
    """The tensors of a folder, read one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info: dict[str, TensorInfo] = index(folder)

    def read(self, name: str) -> Tensor:
        """Read one tensor into memory of its own; raise UserError where there is none."""
        info = self.info.get(name)
        if info is None:
            raise UserError(f"{self.folder} has no tensor {name}: the model's files are incomplete")
        with (self.folder / info.file).open("rb") as file:
            file.seek(info.begin)
            data = bytearray(info.end - info.begin)
            if file.readinto(data) != len(data):
                raise UserError(f"{self.folder / info.file} was cut off while it was being read")
        if not data:
            return torch.empty(info.shape, dtype=_DTYPES[info.dtype])
        return torch.frombuffer(data, dtype=_DTYPES[info.dtype]).reshape(info.shape)

    def rows(self, name: str, which: Tensor) -> Tensor:
        """Read some rows of a matrix, without the others: (n,) int64 to (n, columns)."""
        info = self.info[name]
        path, shape = self.folder / info.file, (info.shape[0], -1)
        stored = np.memmap(path, np.uint8, "r", info.begin, (info.end - info.begin,))
        taken = torch.from_numpy(stored.reshape(shape)[which.numpy()])
        return taken.view(_DTYPES[info.dtype])

    def finite(self, name: str) -> bool:
        """Say whether a tensor holds no NaN and no inf, reading it piece by piece."""
        info = self.info[name]
        with (self.folder / info.file).open("rb") as file:
            file.seek(info.begin)
            for begin in range(info.begin, info.end, PIECE):
                piece = bytearray(file.read(min(PIECE, info.end - begin)))
                if not torch.isfinite(torch.frombuffer(piece, dtype=_DTYPES[info.dtype])).all():
                    return False
        return True


def index(folder: Path) -> dict[str, TensorInfo]:
    """Read all headers of a folder; raise UserError for missing or truncated files."""
    files = _files(folder)
    found = {name: info for file in files for name, info in _header(folder / file)}
    listed = _weight_map(folder)
    lost = [name for name in listed if name not in found]
    if lost:
        raise UserError(
            f"{folder}: {INDEX} lists {lost[0]} and {len(lost) - 1} more tensors that no file holds"
        )
    return found


def parse_header(
    raw: bytes, file: str, begin: int
) -> dict[str, TensorInfo]:  # begin: of the data, in the file
    """Turn the JSON of a safetensors header into tensor infos; raise ValueError for another."""
    entries = json.loads(raw)
    entries.pop("__metadata__", None)
    return {name: _info(entry, file, begin) for name, entry in entries.items()}


def _info(entry: Mapping[str, Any], file: str, begin: int) -> TensorInfo:
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    first, last = entry["data_offsets"]
    if dtype not in _DTYPES:
        raise ValueError(f"dtype {dtype} is not one that hubq reads")
    if last - first != math.prod(shape) * _DTYPES[dtype].itemsize:
        raise ValueError(f"{last - first} bytes can't hold {shape} of {dtype}")
    return TensorInfo(file, dtype, shape, begin + first, begin + last)


def _files(folder: Path) -> list[str]:
    """Return the names of the safetensors files that make up the model."""
    listed = sorted(set(_weight_map(folder).values()))
    missing = [name for name in listed if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder}: {INDEX} names {missing[0]}, which is not there "
            f"({len(missing)} of {len(listed)} files missing). Download the model again."
        )
    files = listed or sorted(path.name for path in folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder} has no .safetensors files: hubq reads no other kind of weights")
    return files


def _weight_map(folder: Path) -> dict[str, str]:
    path = folder / INDEX
    if not path.is_file():
        return {}
    try:
        listed: dict[str, str] = json.loads(path.read_bytes())["weight_map"]
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is no safetensors index: {error}") from error
    unsafe = [name for name in listed.values() if Path(name).name != name]
    if unsafe:
        raise UserError(f"{path} names {unsafe[0]}, which is not a file of its own folder")
    return listed


def _header(path: Path) -> Iterator[tuple[str, TensorInfo]]:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, _MAX_HEADER):
                raise ValueError("its header is longer than the file")
            infos = parse_header(file.read(length), path.name, begin=8 + length)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise UserError(f"{path} is damaged or no safetensors file: {error}") from error
    end = max((info.end for info in infos.values()), default=8 + length)
    if end > size:
        raise UserError(
            f"{path} is truncated: its header promises {end:,} bytes and it has {size:,}. "
            "Download it again."
        )
    yield from infos.items()


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file in one atomic step; equal tensors give equal bytes."""
    partial = path.with_name(path.name + ".partial")
    # Wide dtypes first: every tensor starts at a multiple of its own width.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    header = _spell({name: (_SPELLED[t.dtype], tuple(t.shape)) for name, t in ordered})
    with partial.open("wb") as file:
        file.write(header)
        for _, tensor in ordered:
            file.write(_bytes(tensor))
    os.replace(partial, path)


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _spell(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """Return length and JSON header for tensors that will follow in this order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        end = offset + math.prod(shape) * _DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw


class Piece(NamedTuple):
    """A tensor that lies in some file, to be copied."""

    name: str
    path: Path
    info: TensorInfo

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.info.end - self.info.begin


def pieces(path: Path) -> list[Piece]:
    """List the tensors of a safetensors file in the order in which they lie there."""
    return [Piece(name, path, info) for name, info in _header(path)]


def merge(tensors: Iterable[Piece], folder: Path, *, shard_bytes: int = 5_000_000_000) -> int:
    """Copy tensors into shards with an index, as streams; return the data's bytes.

    No more than a copy buffer is held in memory. One shard is called model.safetensors and needs
    no index.
    """
    shards = _deal(tensors, shard_bytes)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = "model.safetensors"
        if len(shards) > 1:
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _copy_shard(folder / name, sorted(shard, key=lambda each: -_width(each)))
        weight_map |= {piece.name: name for piece in shard}
    total = sum(piece.size for shard in shards for piece in shard)
    if len(shards) > 1:
        listed = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        write_atomically(folder / INDEX, json.dumps(listed, indent=2).encode() + b"\n")
    return total


def _width(piece: Piece) -> int:
    return _DTYPES[piece.info.dtype].itemsize


def _deal(tensors: Iterable[Piece], shard_bytes: int) -> list[list[Piece]]:
    """Cut a row of tensors into shards of at most so many bytes, one tensor at the least."""
    shards: list[list[Piece]] = [[]]
    filled = 0
    for piece in tensors:
        if shards[-1] and filled + piece.size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(piece)
        filled += piece.size
    return shards


def _copy_shard(path: Path, shard: list[Piece]) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as target:
        target.write(_spell({each.name: (each.info.dtype, each.info.shape) for each in shard}))
        for each in shard:
            with each.path.open("rb") as source:
                _copy(source, target, each.info.begin, each.info.end)
    os.replace(partial, path)


def _copy(source: BinaryIO, target: BinaryIO, begin: int, end: int) -> None:
    source.seek(begin)
    left = end - begin
    while left:
        piece = source.read(min(left, PIECE))
        assert piece, "a part shrank while it was being copied"
        target.write(piece)
        left -= len(piece)
