"""The finished blocks of a walk, kept so that a killed run goes on where it stopped.

A block's record is written last, after its packed tensors and the hidden states that leave it: as
many blocks as have records are done, and whatever else lies there is made again.
"""

from pathlib import Path

from pydantic import Field
from torch import Tensor

from hubq.records.record import Record
from hubq.sources.shards import Weights, write


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
        folder.mkdir(parents=True, exist_ok=True)

    def passed(self) -> int:
        """Return how many blocks the furthest that are kept have passed."""
        return max((int(path.parent.name) for path in self.folder.glob("*/states.*s")), default=0)

    def read(self, passed: int) -> dict[str, Tensor]:
        """Read the tensors that have passed so many blocks."""
        weights = Weights(self._file(passed).parent)
        return {name: weights.read(name) for name in weights.info}

    def write(self, passed: int, tensors: dict[str, Tensor]) -> None:
        """Keep tensors that have passed so many blocks."""
        self._file(passed).parent.mkdir(exist_ok=True)
        write(self._file(passed), tensors)

    def forget(self, passed: int) -> None:
        """Drop what has passed so many blocks only."""
        self._file(passed).unlink(missing_ok=True)

    def _file(self, passed: int) -> Path:
        return self.folder / f"{passed:05d}" / "states.safetensors"


class FinishedBlocks:
    """A folder with one part of packed tensors and one record for each finished block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.states = States(folder / "states")
        self.records: list[BlockRecord] = []
        while (path := self._record(len(self.records))).exists():
            self.records.append(BlockRecord.load(path))

    @property
    def count(self) -> int:
        """How many blocks are done."""
        return len(self.records)

    def leaving(self) -> dict[str, Tensor]:
        """Read the hidden states that leave the last finished block."""
        return self.states.read(self.count)

    def add(
        self, tensors: dict[str, Tensor], leaving: dict[str, Tensor], record: BlockRecord
    ) -> None:
        """Keep one more block; a kill at any point leaves it finished or not begun."""
        number = self.count
        write(self.part(number), tensors)
        if leaving:
            self.states.write(number + 1, leaving)
        record.save(self._record(number))
        self.records.append(record)
        self.states.forget(number)

    def part(self, number: int) -> Path:
        """Return where the packed tensors of a block lie."""
        return self.folder / f"block-{number:05d}.safetensors"

    def _record(self, number: int) -> Path:
        return self.folder / f"block-{number:05d}.json"
