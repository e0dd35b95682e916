"""Safetensors folders, read tensor by tensor and written as a stream.

The library reads and writes whole dictionaries; a 70B model needs one tensor at a time.
"""

import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.machine.files import write_atomically, written_in_one_step
from hubq.records.run_folder import ADAPTER
from hubq.sources.tensor_headers import DTYPES, TensorInfo, read_header
from hubq.sources.weight_files import INDEX, weight_files

__all__ = ["INDEX", "PIECE", "Piece", "TensorInfo", "Weights", "index", "merge", "pieces", "write"]

PIECE = 1 << 24  # bytes that are held while a tensor is copied or looked through
SPELLED = {dtype: name for name, dtype in DTYPES.items()}


class Weights:
    """The tensors of a folder, read one at a time: the model's, or those of some headers."""

    def __init__(self, folder: Path, info: dict[str, TensorInfo] | None = None) -> None:
        self.folder = folder
        self.info: dict[str, TensorInfo] = index(folder) if info is None else info

    def read(self, name: str) -> Tensor:
        """Read one tensor into memory of its own; raise UserError where there is none."""
        info = self.info.get(name)
        if info is None:
            raise UserError(f"{self.folder} has no tensor {name}: the model's files are incomplete")
        with (self.folder / info.file).open("rb") as file:
            file.seek(info.begin)
            tensor = torch.empty(info.shape, dtype=DTYPES[info.dtype])
            if file.readinto(_bytes(tensor)) != tensor.nbytes:
                raise UserError(f"{self.folder / info.file} was cut off while it was being read")
        return tensor

    def rows(self, name: str, which: Tensor) -> Tensor:
        """Read some rows of a matrix, without the others: (n,) int64 to (n, columns)."""
        info = self.info[name]
        path, shape = self.folder / info.file, (info.shape[0], -1)
        stored = np.memmap(path, np.uint8, "r", info.begin, (info.end - info.begin,))
        taken = torch.from_numpy(stored.reshape(shape)[which.numpy()])
        return taken.view(DTYPES[info.dtype])

    def finite(self, name: str) -> bool:
        """Say whether a tensor holds no NaN and no inf, reading it piece by piece."""
        info = self.info[name]
        with (self.folder / info.file).open("rb") as file:
            file.seek(info.begin)
            for begin in range(info.begin, info.end, PIECE):
                piece = bytearray(file.read(min(PIECE, info.end - begin)))
                if not torch.isfinite(torch.frombuffer(piece, dtype=DTYPES[info.dtype])).all():
                    return False
        return True

    def same(self, one: str, other: str) -> bool:
        """Say whether two tensors hold the same numbers in the same dtype, read piece by piece."""
        return self.equals(one, self, other)

    def equals(self, name: str, others: "Weights", other: str) -> bool:
        """Say so of a tensor and one of another folder."""
        first, second = self.info[name], others.info[other]
        if (first.dtype, first.shape) != (second.dtype, second.shape):
            return False
        with (
            (self.folder / first.file).open("rb") as here,
            (others.folder / second.file).open("rb") as there,
        ):
            here.seek(first.begin)
            there.seek(second.begin)
            for begin in range(first.begin, first.end, PIECE):
                size = min(PIECE, first.end - begin)
                if here.read(size) != there.read(size):
                    return False
        return True


def index(folder: Path) -> dict[str, TensorInfo]:
    """Read all headers of a folder's model; raise UserError for missing or damaged files."""
    files = weight_files(folder)
    if files.pickled:
        raise UserError(f"{folder} has only pickled weights, but safetensors are needed here")
    found: dict[str, TensorInfo] = {}
    for file in files.names:
        for name, info in read_header(folder / file).items():
            if name in found:
                raise UserError(
                    f"{folder}: {found[name].file} and {file} both hold {name}, so hubq can't "
                    "tell which one is the model's; remove the file that is not the model's"
                )
            found[name] = info
    if lost := sorted(files.listed - found.keys()):
        raise UserError(
            f"{folder}: {INDEX} lists {lost[0]} and {len(lost) - 1} more tensors that no file "
            "holds. Download the model again."
        )
    return found


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file in one atomic step; equal tensors give equal bytes."""
    # Wide dtypes first: every tensor starts at a multiple of its own width.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    header = _spell({name: (SPELLED[t.dtype], tuple(t.shape)) for name, t in ordered})
    with written_in_one_step(path) as file:
        file.write(header)
        for _, tensor in ordered:
            file.write(_bytes(tensor))


def overwrite(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors in the places of those of their names, whose dtype and shape they have.

    All else in the folder's files stays as it is, byte for byte.
    """
    info = index(folder)
    for name, tensor in tensors.items():
        place = info[name]
        same = (DTYPES[place.dtype], place.shape) == (tensor.dtype, tuple(tensor.shape))
        assert same, f"{name} is not laid out as the tensor in its place"
        with (folder / place.file).open("r+b") as file:
            file.seek(place.begin)
            file.write(_bytes(tensor))


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _spell(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """Return length and JSON header for tensors that will follow in this order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        end = offset + math.prod(shape) * DTYPES[dtype].itemsize
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
    return [Piece(name, path, info) for name, info in read_header(path).items()]


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
    return DTYPES[piece.info.dtype].itemsize


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
    with written_in_one_step(path) as target:
        target.write(_spell({each.name: (each.info.dtype, each.info.shape) for each in shard}))
        for each in shard:
            with each.path.open("rb") as source:
                _copy(source, target, each.info.begin, each.info.end)


def _copy(source: BinaryIO, target: BinaryIO, begin: int, end: int) -> None:
    source.seek(begin)
    left = end - begin
    while left:
        piece = source.read(min(left, PIECE))
        assert piece, "a part shrank while it was being copied"
        target.write(piece)
        left -= len(piece)


def weight_bytes(folder: Path) -> int:
    """Count the bytes of the files that hold the weights, those of an adapter included."""

    files = {info.file for info in index(folder).values()}
    return sum((folder / name).stat().st_size for name in files) + adapter_bytes(folder)


def adapter_bytes(folder: Path) -> int:
    """Count the bytes of the adapter that lies in a model's folder; 0: there is none."""
    return sum(path.stat().st_size for path in (folder / ADAPTER).glob("*.safetensors"))
