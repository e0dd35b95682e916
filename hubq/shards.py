"""Safetensors folders, read tensor by tensor and written as a stream.

The library reads and writes whole dictionaries; a 70B model needs one tensor at a time, and a
header that can be trusted before hours of work start. The layout is eight bytes of length, a JSON
header, and the data back to back.
"""

import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.record import write_atomically

INDEX = "model.safetensors.index.json"
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
    count = 1
    for length in shape:
        count *= length
    if last - first != count * _DTYPES[dtype].itemsize:
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
        count = 1
        for length in shape:
            count *= length
        end = offset + count * _DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw


def merge(parts: Iterable[Path], folder: Path, *, shard_bytes: int = 5_000_000_000) -> int:
    """Join files of tensors into shards with an index, copying streams; return the data's bytes.

    No more than a copy buffer is held in memory. One shard is called model.safetensors and needs
    no index.
    """
    infos = [
        item for part in parts for item in sorted(_header(part), key=lambda item: item[1].begin)
    ]
    folders = {part.name: part.parent for part in parts}
    shards = _deal(infos, shard_bytes)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = (
            "model.safetensors"
            if len(shards) == 1
            else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        )
        shard.sort(key=lambda item: -_DTYPES[item[1].dtype].itemsize)
        _copy_shard(folder / name, shard, folders)
        weight_map |= {tensor: name for tensor, _ in shard}
    total = sum(info.end - info.begin for _, info in infos)
    if len(shards) > 1:
        content = {
            "metadata": {"total_size": total},
            "weight_map": dict(sorted(weight_map.items())),
        }
        write_atomically(folder / INDEX, json.dumps(content, indent=2).encode() + b"\n")
    return total


def _deal(
    infos: list[tuple[str, TensorInfo]], shard_bytes: int
) -> list[list[tuple[str, TensorInfo]]]:
    """Cut a row of tensors into shards of at most so many bytes, one tensor at the least."""
    shards: list[list[tuple[str, TensorInfo]]] = [[]]
    filled = 0
    for name, info in infos:
        size = info.end - info.begin
        if shards[-1] and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append((name, info))
        filled += size
    return shards


def _copy_shard(
    path: Path, shard: list[tuple[str, TensorInfo]], folders: Mapping[str, Path]
) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as target:
        target.write(_spell({name: (info.dtype, info.shape) for name, info in shard}))
        for _, info in shard:
            with (folders[info.file] / info.file).open("rb") as source:
                _copy(source, target, info.begin, info.end)
    os.replace(partial, path)


def _copy(source: BinaryIO, target: BinaryIO, begin: int, end: int) -> None:
    source.seek(begin)
    left = end - begin
    while left:
        piece = source.read(min(left, 1 << 24))
        assert piece, "a part shrank while it was being copied"
        target.write(piece)
        left -= len(piece)
