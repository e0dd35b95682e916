"""The processes that quantize one model together, a GPU each; usually one, which asks nobody.

All do the same in the same order; each has some of the calibration windows. What one of them knows
is sent to the others as it is, never summed on the way: everybody adds up in the order of the
ranks. An all-reduce promises no order, so the bytes of a result would differ from run to run.
"""

import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from hubq.errors import UserError
from hubq.machine.device import best_device
from hubq.machine.processes import started_together
from hubq.machine.shortages import is_out_of_memory

PIECE = 1 << 24  # numbers of a tensor that are sent at once: 64 MB where they are float32
PATIENCE = timedelta(days=1)  # for the first, which downloads; one that ends is noticed at once
LOOPBACK = "lo"

T = TypeVar("T")


class PeerEnded(UserError):  # noqa: N818 - what happens
    """Another of the processes has ended, which says itself why."""


@dataclass(frozen=True)
class Ranks:
    """A process among those that quantize one model; each calls the same methods in turn."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this one talks, and writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return which of so many things in a row are this process's: those of all make them up."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def place(self, count: int) -> tuple[int, int]:
        """Return how many things those before this process hold, and how many all hold."""
        counts = self.all(count)
        return sum(counts[: self.rank]), sum(counts)

    def all(self, value: T) -> list[T]:
        """Return everybody's value, by rank; tensors of another's GPU are on this one's."""
        return [self._sent(value, rank) for rank in range(self.size)]

    def of_first(self, make: Callable[[], T]) -> T:
        """Let the first make a value, and return that to all."""
        return self._sent(make() if self.first else None, 0)  # type: ignore[return-value] # sent

    def sum(self, tensor: Tensor) -> None:
        """Add up everybody's tensor in place, in the order of ranks."""
        self._combine(tensor, Tensor.add_)

    def greatest(self, tensor: Tensor) -> None:
        """Put the greatest of everybody's tensor in its place, number by number."""
        self._combine(tensor, lambda most, part: torch.maximum(most, part, out=most))

    def on_first(self, tensor: Tensor) -> Tensor:
        """Join everybody's tensor by rows, in the order of ranks, in the first one's memory.

        The others get their own back.
        """
        if self.size == 1:
            return tensor
        counts, own = self.all(len(tensor)), tensor.cpu()
        with _talking():
            if not self.first:
                for piece in _pieces(own):
                    distributed.send(piece, 0)
                return tensor
            whole = own.new_empty(sum(counts), *own.shape[1:])
            whole[: counts[0]] = own
            for rank in range(1, self.size):
                begin = sum(counts[:rank])
                for piece in _pieces(whole[begin : begin + counts[rank]]):
                    distributed.recv(piece, rank)
        return whole

    def _combine(self, tensor: Tensor, take_in: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Combine everybody's tensor in place, piece by piece: each goes out before it changes."""
        if self.size == 1:
            return
        assert tensor.is_contiguous()
        for begin in range(0, tensor.numel(), PIECE):
            result = tensor.view(-1)[begin : begin + PIECE]
            own = result.clone()
            for rank in range(self.size):
                part = own if rank == self.rank else torch.empty_like(own)
                with _talking():
                    distributed.broadcast(part, src=rank)
                if rank == 0:
                    result.copy_(part)
                else:
                    take_in(result, part)

    def _sent(self, value: T, source: int) -> T:
        """Return the value of one process: what is no tensor is pickled.

        That is among the processes of one command, over loopback, and never in a file.
        """
        if self.size == 1:
            return value
        mine, tensors = source == self.rank, list[Tensor]()
        box: list[Any] = [None]
        if mine:
            box = [
                (
                    _packed(value, tensors),
                    [(each.shape, each.dtype, each.is_cpu) for each in tensors],
                )
            ]
        with _talking():
            distributed.broadcast_object_list(box, src=source, device=torch.device("cpu"))
            packed, sketches = box[0]
            if not mine:
                tensors = [
                    torch.empty(shape, dtype=dtype, device="cpu" if is_cpu else best_device())
                    for shape, dtype, is_cpu in sketches
                ]
            for each in tensors:
                for piece in _pieces(each):
                    distributed.broadcast(piece, src=source)
        return value if mine else _unpacked(packed, tensors)


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Give this process its place among those that torchrun started, and its GPU.

    Raises UserError where they are on several machines, or more than there are GPUs.
    """
    size = started_together()
    if size == 1:
        yield ALONE
        return
    own, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if here != size:
        raise UserError("quantizing takes the GPUs of one machine: run torchrun on it alone")
    on_gpu = best_device().type == "cuda"
    if on_gpu and own >= torch.cuda.device_count():
        raise UserError(
            f"torchrun started {size} processes for {torch.cuda.device_count()} GPUs: give "
            "--nproc-per-node their number"
        )
    if on_gpu:
        torch.cuda.set_device(own)
    if LOOPBACK in (name for _, name in socket.if_nameindex()):  # nobody else shall listen
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
    yield Ranks(distributed.get_rank(), size)
    distributed.destroy_process_group()  # not after an error: the process ends, without waiting


@contextmanager
def _talking() -> Iterator[None]:
    """Say of a process that can't be talked to that it has ended."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        said = str(error).partition("\n")[0]
        raise PeerEnded(
            f"another of the processes that quantize together has ended ({said}). Run the same "
            "command again: it goes on where it stopped"
        ) from error


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Yield a tensor's bytes, some at a time; those of a contiguous one can be written."""
    flat = tensor.contiguous().view(-1)
    for begin in range(0, len(flat), PIECE):
        yield flat[begin : begin + PIECE].view(torch.uint8)


class _Pickler(pickle.Pickler):
    """Leaves tensors out, and lists them."""

    def __init__(self, file: BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(file)
        self.tensors = tensors

    def persistent_id(self, each: object) -> int | None:
        """Return the number of a tensor."""
        if not isinstance(each, Tensor):
            return None
        self.tensors.append(each)
        return len(self.tensors) - 1


class _Unpickler(pickle.Unpickler):
    """Puts tensors in by their numbers."""

    def __init__(self, file: BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(file)
        self.tensors = tensors

    def persistent_load(self, number: int) -> Tensor:
        """Return the tensor of a number."""
        return self.tensors[number]


def _packed(value: object, tensors: list[Tensor]) -> bytes:
    file = BytesIO()
    _Pickler(file, tensors).dump(value)
    return file.getvalue()


def _unpacked(packed: bytes, tensors: list[Tensor]) -> Any:  # noqa: ANN401 - whatever was sent
    return _Unpickler(BytesIO(packed), tensors).load()
