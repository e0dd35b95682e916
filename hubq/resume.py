"""The finished blocks of a walk, kept so that a killed run goes on where it stopped.

A block's record is written last, after its packed tensors and the hidden states that leave it: as
many blocks as have records are done, and whatever else lies there is made again.
"""

from pathlib import Path

from torch import Tensor

from hubq.record import Record
from hubq.shards import Weights, write


class BlockRecord(Record):
    """What became of the linears of one block."""

    bits: dict[str, float]  # by module: stored bits a weight
    errors: dict[str, float]  # by module: relative output error, where it was measured
    facts: dict[str, dict[str, float]]  # by module: what its solver had to do


class FinishedBlocks:
    """A folder with one part of packed tensors and one record for each finished block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.records: list[BlockRecord] = []
        while (path := self._record(len(self.records))).exists():
            self.records.append(BlockRecord.load(path))

    @property
    def count(self) -> int:
        """How many blocks are done."""
        return len(self.records)

    def hidden(self) -> Tensor:
        """Read the hidden states that leave the last finished block."""
        return Weights(self._hidden(self.count)).read("hidden")

    def add(self, tensors: dict[str, Tensor], hidden: Tensor | None, record: BlockRecord) -> None:
        """Keep one more block; a kill at any point leaves it finished or not begun."""
        number = self.count
        write(self.part(number), tensors)
        if hidden is not None:
            self._hidden(number + 1).mkdir(exist_ok=True)
            write(self._hidden(number + 1) / "hidden.safetensors", {"hidden": hidden})
        record.save(self._record(number))
        self.records.append(record)
        (self._hidden(number) / "hidden.safetensors").unlink(missing_ok=True)

    def part(self, number: int) -> Path:
        """Return where the packed tensors of a block lie."""
        return self.folder / f"block-{number:05d}.safetensors"

    def _hidden(self, number: int) -> Path:
        return self.folder / f"hidden-{number:05d}"

    def _record(self, number: int) -> Path:
        return self.folder / f"block-{number:05d}.json"
