"""What a killed run goes on from: its finished blocks, and the states that flow between blocks.

Packed tensors and records are written block by block. The hidden states, which are far larger, are
kept at intervals of work: a block is finished where those that leave it, or a later one, are kept.
"""

import math
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Self

import torch
from pydantic import Field
from torch import Tensor

from hubq.errors import UserError
from hubq.records.plan import Plan
from hubq.records.record import Record
from hubq.records.run_folder import BLOCKS
from hubq.sources.shards import Weights, write
from hubq.stages.recipe.recipe import Recipe

VARIABLE = "HUBQ_KEEP_EVERY"
SECONDS = 120.0  # of work, that a kill costs at most, unless a single block takes longer


class BlockRecord(Record):
    """What became of the linears of one block."""

    bits: dict[str, float]  # by module: stored bits a weight
    needed: dict[str, float]  # by module: bits a weight that define it
    errors: dict[str, float]  # by module: relative output error, where it was measured
    weight_errors: dict[str, float] = Field(
        default={}, description="by module: of the weights, where those are not known"
    )
    facts: dict[str, dict[str, float]]  # by module: what its solver had to do


class States:
    """Tensors that flow from block to block, kept on disk by how many blocks they have passed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def passed(self, most: float = math.inf) -> int:
        """Return how many blocks, `most` at most, the furthest that are kept have passed."""
        kept = (int(path.parent.name) for path in self.folder.glob("*/states.safetensors"))
        return max((passed for passed in kept if passed <= most), default=0)

    def read(self, passed: int) -> dict[str, Tensor]:
        """Read the tensors that have passed so many blocks."""
        weights = Weights(self.folder / f"{passed:05d}")
        return {name: weights.read(name) for name in weights.info}

    def write(self, passed: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors that have passed so many blocks, and then no others."""
        own = self.folder / f"{passed:05d}"
        own.mkdir(parents=True, exist_ok=True)
        write(own / "states.safetensors", tensors)
        for other in set(self.folder.iterdir()) - {own}:
            shutil.rmtree(other)


class Keeper:
    """Keeps states at intervals of work; inside the context, since a write may be under way.

    What is on a GPU is copied to pinned memory and written by a thread, while the GPU goes on; one
    copy at a time. What is in RAM is written before `offer` returns: a copy would take as much
    memory again, to save one write in two minutes.
    """

    def __init__(self, states: States, seconds: Callable[[], float] = monotonic) -> None:
        self.states = states
        self.seconds = seconds
        self.interval = interval()
        self.kept = self.offered = seconds()  # when states were kept, when they could have been
        self.pinned: dict[str, Tensor] = {}
        self.thread = ThreadPoolExecutor(max_workers=1)
        self.writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.thread.shutdown()  # waits for the write that is under way
        if kind is None:
            self._wait()

    def offer(self, passed: int, tensors: Mapping[str, Tensor], is_last: bool) -> None:
        """Keep tensors that have passed so many blocks, if these are the last or it is time.

        Raises what stopped the write before.
        """
        if self.is_due(is_last=is_last):
            self.keep(passed, tensors)

    def is_due(self, *, is_last: bool) -> bool:
        """Tell whether states are to be kept now that one more block is done.

        They are where the interval would be over before another is. Raises what stopped the write
        before.
        """
        if self.writing is not None and self.writing.done():
            self._wait()
        now = self.seconds()
        block, self.offered = now - self.offered, now
        return is_last or now + block - self.kept >= self.interval

    def keep(self, passed: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors that have passed so many blocks."""
        self._wait()
        self.kept = self.offered
        in_ram = {name: self._in_ram(name, tensor) for name, tensor in tensors.items()}
        self.writing = self.thread.submit(self.states.write, passed, in_ram)
        if any(in_ram[name] is tensor for name, tensor in tensors.items()):
            self._wait()

    def _in_ram(self, name: str, tensor: Tensor) -> Tensor:
        """Return a tensor that lies in RAM as it is, and another's copy there."""
        if tensor.device.type == "cpu":
            return tensor
        held = self.pinned.get(name)
        if held is None or held.shape != tensor.shape or held.dtype != tensor.dtype:
            held = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self.pinned[name] = held
        return held.copy_(tensor)

    def _wait(self) -> None:
        """Wait for the write that is under way; raise what stopped it."""
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()


def interval() -> float:
    """Return how many seconds of work may pass before states are kept; 0: after every block."""
    asked = os.environ.get(VARIABLE, "").strip()
    try:
        seconds = float(asked) if asked else SECONDS
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise UserError(
            f"{VARIABLE} is {asked!r}: set it to the seconds of work that a kill may cost, or "
            f"leave it unset for {SECONDS:.0f}"
        )
    return seconds


class FinishedBlocks:
    """A folder with one part of packed tensors and one record for each finished block.

    A block's record is written after its packed tensors. Where hidden states flow through the
    blocks, only those up to the last that left such states are finished; whatever else lies there
    is made again.
    """

    def __init__(self, folder: Path, flow: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.states = States(folder / "states")
        self.records: list[BlockRecord] = []
        while (path := self._record(len(self.records))).exists():
            self.records.append(BlockRecord.load(path))
        if flow:
            del self.records[self.states.passed(len(self.records)) :]

    @property
    def count(self) -> int:
        """How many blocks are done."""
        return len(self.records)

    def leaving(self) -> dict[str, Tensor]:
        """Read the hidden states that leave the last finished block."""
        return self.states.read(self.count)

    def add(self, tensors: dict[str, Tensor], record: BlockRecord) -> None:
        """Keep one more block; a kill at any point leaves it finished or not begun."""
        number = self.count
        write(self.part(number), tensors)
        record.save(self._record(number))
        self.records.append(record)

    def part(self, number: int) -> Path:
        """Return where the packed tensors of a block lie."""
        return self.folder / f"block-{number:05d}.safetensors"

    def _record(self, number: int) -> Path:
        return self.folder / f"block-{number:05d}.json"


def teacher_states(blocks: Path) -> States:
    """Return what is kept while the unquantized model reads, before any block is quantized."""
    return States(blocks / "teacher")


def blocks_of(plan: Plan) -> int:
    """Count a model's blocks, by the numbers in the names of its modules."""
    names = (part for each in plan.modules for part in each.name.split(".") if part.isdigit())
    return 1 + max(map(int, names))


def where_it_goes_on(plan: Plan, run: Path) -> str | None:
    """Say after which block a run that was stopped goes on; None where no block is done."""
    folder = run / BLOCKS
    if not folder.is_dir():
        return None
    blocks = blocks_of(plan)
    recipe = Recipe.model_validate(plan.recipe)
    if done := FinishedBlocks(folder, recipe.reads_text).count:
        return f"after block {done} of {blocks}"
    read = min(teacher_states(folder).passed(), blocks)
    return f"after the base has read as far as block {read} of {blocks}" if read else None
