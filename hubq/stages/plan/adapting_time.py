"""How long adapting takes, part by part: counted of the model's shapes, over a machine's rates.

A step of training runs the model three times: forward, forward again block by block on the way
back, where only the inputs of blocks were kept, and back to the inputs of frozen weights. The
gradient of scales takes a fourth, in float32. How long the pairs are is known only of hubq's tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hubq.methods.adapters import Adapter, TrainedAdapter
from hubq.records.recipe_calibration import CalibrationSection
from hubq.sources.task_sizes import SIZES, UNKNOWN
from hubq.stages.plan.running import Run

LAYOUT = 40  # tokens of a template around a pair
PAIR, ANSWER = 130, 60  # tokens of a pair of unknown length, and of its answer: Alpaca's
CHOICE = 5  # tokens of an answer to a task's question
RUNS = 3  # of the model, in a step
UNPACKINGS = 2  # of all weights, in a step
UNPACKED = 30  # bytes a weight that are read and written meanwhile: 23 of integers, 47 of NF4
FLOAT = 4  # bytes
MOVED = 7  # numbers that AdamW reads or writes of a parameter
# Operations of finding the best matrices, over a weight's size and its width; in float64, which
# takes twice the time of float32.
CORRECTING = 60


@dataclass(frozen=True)
class AdaptedRun:
    """What a model's linears and a machine's rates make of an adapter."""

    run: Run
    adapter: Adapter
    parameters: int  # of all linears

    def parts(self, calibration: CalibrationSection | None) -> dict[str, float]:
        """Return the seconds of each part."""
        parts: dict[str, float] = {}
        if self.adapter.needs and calibration is not None:
            parts |= self._correcting(calibration)
        if isinstance(self.adapter, TrainedAdapter):
            adapter = self.adapter
            parts["training"] = adapter.steps * self._step(adapter)
            parts["held-out pairs"] = 2 * self._read(adapter, adapter.held_out)
        return parts

    def _step(self, adapter: TrainedAdapter) -> float:
        """Return the seconds of one update."""
        shape, rates = self.run.shape, self.run.rates
        times = -(-adapter.batch_size // (adapter.at_once or adapter.batch_size))
        weights = shape.blocks * shape.weights
        unpacked = UNPACKINGS * times * weights * UNPACKED
        learning = MOVED * FLOAT * self.parameters
        # Each token meets the thin matrices four times, as both ways back have two products.
        met = weights if adapter.makes == "checkpoint" else 4 * self.parameters
        beside = 2 * adapter.batch_size * tokens(adapter)[0] * met
        return (
            RUNS * self._read(adapter, adapter.batch_size)
            + (unpacked + learning) / rates.passed
            + beside / rates.products["float32"]
        )

    def _read(self, adapter: TrainedAdapter, pairs: int) -> float:
        """Return the seconds in which the model reads some pairs and scores their answers."""
        length, answer = tokens(adapter)
        return self.run.blocks(pairs * length, length) + self.run.head(pairs * answer)

    def _correcting(self, section: CalibrationSection) -> Mapping[str, float]:
        """Return the seconds of walking over a text and finding the best correction."""
        shape, rates = self.run.shape, self.run.rates
        read = section.tokens
        forward = self.run.blocks(read, section.length)
        gram = sum(2 * read * columns**2 for columns in shape.inputs) / rates.gram
        solved = sum(
            CORRECTING * out * columns * min(out, columns)
            for group in shape.groups
            for out, columns in group
        )
        solving = solved / rates.products["float32"]
        return {
            "forward": forward,
            "statistics": shape.blocks * gram,
            "solving": shape.blocks * solving,
        }


def tokens(adapter: TrainedAdapter) -> tuple[int, int]:
    """Return about how many tokens a pair has, and its answer."""
    longest = adapter.source_length + adapter.target_length
    tasks = adapter.dataset.tasks
    if tasks is None:
        return min(PAIR, longest), min(ANSWER, adapter.target_length)
    sizes = [SIZES.get(each, UNKNOWN) for each in tasks]
    items = sum(each.items for each in sizes)
    mean = sum(each.items * each.tokens for each in sizes) / items
    return min(LAYOUT + round(mean), longest), min(CHOICE, adapter.target_length)
