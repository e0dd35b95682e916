"""Calibration tokens on their way through one block, whose linears are solved group by group.

A group is solved when every token has reached it, and the pass goes on with what became of its
weights: so a block costs one forward pass, and memory holds one block and the hidden states.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from hubq.machine.progress import Clock
from hubq.methods import Inputs, Need
from hubq.sources.architecture import InputGroup
from hubq.stages.quantize.block import Block
from hubq.stages.quantize.input_statistics import InputStatistics
from hubq.stages.quantize.ranks import ALONE, Ranks
from hubq.stages.quantize.streams import Room, Stream
from hubq.stages.quantize.windows import EVERY, Windows

ForwardPart = Callable[[Tensor], Tensor]


class Flow(ABC):
    """One block, and what is gathered of the inputs of its linears for whoever solves them."""

    def __init__(
        self, block: Block, needs: frozenset[Need], clock: Clock, ranks: Ranks = ALONE
    ) -> None:
        self.block = block
        self.needs = needs
        self.clock = clock
        self.ranks = ranks
        self.windows = EVERY

    @abstractmethod
    def solve(self, input_group: InputGroup, inputs: Inputs) -> Tensor | None:
        """Change the weights of a group, and return the factor (in,) folded into its norm, if any.

        The pass goes on with the block's new weights.
        """

    def prepare(
        self, last: InputGroup, hidden: Stream, parts: tuple[ForwardPart, ForwardPart]
    ) -> None:
        """Do what has to be done before a half of the block runs, which ends with a group."""
        return

    def flow(self, hidden: Stream, solved: Callable[[], None], windows: Windows = EVERY) -> None:
        """Solve all groups; `hidden` (windows, length, hidden) becomes the block's output.

        `solved` is called after each group.
        """
        block, self.windows = self.block, windows
        query, output, gate, down = self.groups
        self._half(query, output, hidden, (block.into_attention, block.out_of_attention), solved)
        self._half(gate, down, hidden, (block.into_feed_forward, block.out_of_feed_forward), solved)

    def _half(
        self,
        first: InputGroup,
        last: InputGroup,
        hidden: Stream,
        parts: tuple[ForwardPart, ForwardPart],
        solved: Callable[[], None],
    ) -> None:
        """Run attention or feed-forward: solve what begins it and what ends it, add its output."""
        into, out = parts
        self.prepare(last, hidden, parts)
        room, shape = Room.of(hidden), tuple(hidden.shape)
        normed = room.empty(shape, hidden.dtype) if room.keeps_normed else None
        folded = self.solve(first, self.gather(first, hidden, into, normed))
        solved()
        linear = self.block.linear(last.linears[0])
        wide = room.empty((*shape[:2], linear.in_features), hidden.dtype)
        if folded is None and normed is not None:
            inputs = self.gather(last, normed, out, wide)
        else:
            inputs = self.gather(last, hidden, lambda batch: out(into(batch)), wide)
        del normed
        self.solve(last, inputs)
        with self.clock.timing("forward"):
            for window in self.windows.batches(hidden.shape):
                hidden[window] += linear(wide[window])
        solved()

    def gather(
        self,
        group: InputGroup,
        source: Stream,
        part: ForwardPart,
        keep: Stream | None,
        windows: Windows | None = None,
    ) -> Inputs:
        """Run a part over all windows, and gather the statistics of what reaches a group.

        That is kept too, unless nothing keeps it, which takes inputs as wide as the source.
        `windows` are those of the source, if they aren't all.
        """
        windows = windows or self.windows
        wide, tokens = source if keep is None else keep, windows.tokens(source.shape)
        statistics = InputStatistics(self.needs, wide, self.ranks, tokens)
        for window in windows.batches(source.shape):
            with self.clock.timing("forward"):
                reaching = part(source[window])
                if keep is not None:
                    keep[window] = reaching
            with self.clock.timing("hessian"):
                statistics.add(reaching, windows.counted(window))
        return statistics.result(f"{self.block.name}.{group.linears[0]}")

    @property
    def groups(self) -> tuple[InputGroup, ...]:
        """The groups of the block's family."""
        return self.block.skeleton.family.groups
