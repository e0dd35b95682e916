"""Numbers of all calibration windows that wait for their turn: hidden states, and what is wider.

A walk reads and writes them batch by batch, so they need not lie on the device that computes. There
a stream is a tensor. Beside a GPU it may lie in the host's memory, from which the GPU's copies run
in the order of its other work, or in a file. What is computed is the same.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from hubq.machine.files import require_space
from hubq.machine.memory import Place
from hubq.stages.quantize.block import batches

Part = slice | tuple[slice, slice]  # windows, and perhaps tokens of them


class Stream(Protocol):
    """Numbers (windows, length, width), some windows at a time; a tensor is one."""

    @property
    def shape(self) -> torch.Size:
        """The windows, the tokens of each and the numbers of a token."""

    @property
    def dtype(self) -> torch.dtype:
        """That of the numbers."""

    @property
    def device(self) -> torch.device:
        """Where windows are read to."""

    def __getitem__(self, windows: Part | Tensor, /) -> Tensor:
        """Return some windows, (some, length, width), or some of their tokens, on the device."""

    def __setitem__(self, windows: Part, values: Tensor, /) -> None:
        """Replace some windows, or some of their tokens."""


@dataclass(frozen=True)
class Room:
    """Where the streams of a walk lie."""

    device: torch.device
    place: Place = "device"
    folder: Path | None = None  # for files

    @classmethod
    def of(cls, stream: Stream) -> "Room":
        """Return where a stream lies."""
        return stream.room if isinstance(stream, Apart) else cls(stream.device)

    @property
    def keeps_normed(self) -> bool:
        """Whether what a norm wrote is kept: a CPU would take a tenth longer to norm twice."""
        return self.device.type == "cpu" and self.place != "disk"

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Stream:
        """Make a stream of any values."""
        if self.place == "disk":
            values = self._in_file(shape, dtype)
        elif self.place == "host":
            values = torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")
        else:
            values = torch.empty(shape, dtype=dtype, device=self.device)
        return values if self.place == "device" else Apart(values, self)

    def holding(self, values: Tensor, dtype: torch.dtype) -> Stream:
        """Make a stream of a tensor's values; the tensor itself, if it could be one."""
        if self.place == "device":
            return values.to(self.device, dtype)
        stream = self.empty(tuple(values.shape), dtype)
        settled(stream).copy_(values)
        return stream

    def copy(self, source: Stream) -> Stream:
        """Make a stream of another's values, which may be on the host."""
        target = self.empty(tuple(source.shape), source.dtype)
        for window in batches(*source.shape[:2]):
            target[window] = source[window].to(self.device)
        return target

    def _in_file(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Map a file without a name, which is gone with its tensor, even if the run is killed."""
        assert self.folder is not None, "files need a folder"
        size = torch.Size(shape).numel()
        require_space(self.folder, size * dtype.itemsize, "a stream of hidden states")
        path = self.folder / "stream"
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk would end the process later
                os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
        values = torch.from_file(str(path), shared=True, size=size, dtype=dtype)
        path.unlink()
        return values.view(shape)


class Apart:
    """A stream in the host's memory or in a file."""

    def __init__(self, values: Tensor, room: Room) -> None:
        self.values = values
        self.room = room
        self.device = room.device
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, windows: Part | Tensor, /) -> Tensor:
        """Copy some windows to the device; the host doesn't wait where they are pinned."""
        if isinstance(windows, Tensor):  # one by one: the host must not read what is on its way
            return torch.cat([self[each : each + 1] for each in windows.tolist()])
        return self.values[windows].to(self.device, non_blocking=True)

    def __setitem__(self, windows: Part, values: Tensor, /) -> None:
        """Copy some windows back, in the order of the device's other work."""
        self.values[windows].copy_(values, non_blocking=self.values.is_pinned())

    def settled(self) -> Tensor:
        """Return all once the device has written them, where they lie."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.values


def pour(source: Stream, target: Stream) -> None:
    """Copy all windows of a stream into another."""
    for window in batches(*source.shape[:2]):
        target[window] = source[window]


def settled(stream: Stream) -> Tensor:
    """Return a stream as a tensor, wherever it lies, once it is written."""
    if isinstance(stream, Apart):
        return stream.settled()
    assert isinstance(stream, Tensor)
    return stream
