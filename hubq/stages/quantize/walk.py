"""The engine of all methods: quantize one decoder block while the calibration data flows through.

A group of linears is solved when every calibration token has reached it, on the inputs that the
quantized part of the model really feeds it; the pass goes on with the quantized weights. So a block
costs one forward pass, and memory holds one block and the hidden states, whatever the model's size.
The states may wait outside of the device that computes (hubq/stages/quantize/streams.py).

What a method wants to know of a group's inputs is gathered batch by batch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hubq.machine.progress import Clock
from hubq.methods import Group, Inputs, Layer, Method
from hubq.runtime.pieces import row_pieces
from hubq.sources.architecture import InputGroup
from hubq.stages.quantize.block import Block
from hubq.stages.quantize.flow import Flow, ForwardPart
from hubq.stages.quantize.ranks import ALONE, Ranks
from hubq.stages.quantize.sharing import quantize_group
from hubq.stages.quantize.streams import Room, Stream, pour
from hubq.stages.quantize.tuning import BlockTuning, Teacher, pass_on
from hubq.stages.quantize.windows import EVERY, Windows
from hubq.tensors import QuantizedTensor
from hubq.tensors.gram import factors_in, output_energy

PREVIEW = 8  # one window in so many shows what reaches a linear before its writer is quantized


@dataclass
class Outcome:
    """What a walk made of one block."""

    quantized: dict[str, QuantizedTensor] = field(default_factory=dict)  # by module, full name
    dense: dict[str, Tensor] = field(default_factory=dict)  # by parameter, in the file's dtype
    errors: dict[str, float] = field(default_factory=dict)  # by module: relative output error
    weight_errors: dict[str, float] = field(default_factory=dict)  # likewise, of the weights


class Walk(Flow):
    """One block on its way through a method."""

    def __init__(
        self,
        block: Block,
        method: Method,
        scale_dtype: torch.dtype,
        clock: Clock,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(block, method.needed, clock, ranks)
        self.method = method
        self.scale_dtype = scale_dtype
        self.outcome = Outcome()

    @torch.no_grad()
    def run(
        self,
        hidden: Stream | None,
        solved: Callable[[], None],
        teacher: Teacher | None = None,
        windows: Windows = EVERY,
    ) -> Outcome:
        """Quantize the block; `hidden` (windows, length, hidden) becomes the block's output.

        `solved` is called after each group, and after each epoch of a method that tunes; such a
        method needs a teacher, which moves on to the block's output too and knows the windows.
        Without hidden states nothing is run forward.
        """
        if hidden is None:
            for group in self.groups:
                self.solve(group, Inputs(tokens=0))
                solved()
        elif self.method.tunes:
            assert teacher is not None
            self._tuned_flow(hidden, solved, teacher)
        else:
            self.flow(hidden, solved, windows)
        self._collect_dense()
        return self.outcome

    def _tuned_flow(self, hidden: Stream, solved: Callable[[], None], teacher: Teacher) -> None:
        """Quantize, train what came out, and go forward again with the trained weights."""
        with self.clock.timing("forward"):
            teacher.advance(self.block)
        entering = Room.of(hidden).copy(hidden)
        self.flow(hidden, solved, teacher.windows)
        tuning = BlockTuning(self.block, self.outcome.quantized, entering, teacher, solved)
        with self.clock.timing("tuning"), torch.enable_grad():
            self.outcome.quantized = dict(self.method.tune(tuning))
        prefix = f"{self.block.name}."
        for name, result in self.outcome.quantized.items():
            self.block.set(f"{name.removeprefix(prefix)}.weight", result.dequantize())
        pour(entering, hidden)
        self.outcome.weight_errors = {}  # of before the training
        with self.clock.timing("forward"):
            self.outcome.errors = pass_on(self.block, tuning, hidden)

    def solve(self, input_group: InputGroup, inputs: Inputs) -> Tensor | None:
        """Quantize a group, and return the factor (in,) that was folded into its norm."""
        with self.clock.timing("solving"):
            group = Group(
                tuple(self._layer(linear, inputs) for linear in input_group.linears),
                lambda factor: self._snap(input_group, factor),
            )
            factor = self._fold_into_norm(input_group, group)
            if factor is not None:
                group = group.scaled(factor)
            results = quantize_group(self.method, group, self.ranks)
            for linear, layer, result in zip(
                input_group.linears, group.layers, results, strict=True
            ):
                self.outcome.quantized[layer.name] = result
                if layer.inputs.gram is None:
                    self.outcome.weight_errors[layer.name] = _weight_error(layer.weight, result)
                if layer.inputs.tokens:
                    self._put_back(linear, layer, result)
        return factor

    def _layer(self, linear: str, inputs: Inputs) -> Layer:
        weight = self.block.stored[f"{linear}.weight"].to(self.block.skeleton.device)
        if not self.method.takes_stored:
            weight = weight.float()
        return Layer(f"{self.block.name}.{linear}", weight, inputs, self.scale_dtype)

    def _put_back(self, linear: str, layer: Layer, result: QuantizedTensor) -> None:
        """Let the block go on with the quantized weight, and record what it changes.

        That is the squared output error on the calibration tokens, relative to the output, where
        their second moments are known.
        """
        weight = result.dequantize()
        if layer.inputs.gram is not None:
            own = self.ranks.share(len(weight))  # of the rows
            with factors_in(layer.inputs.dtype):
                lost = output_energy(weight[own] - layer.weight[own], layer.inputs.gram)
                whole = output_energy(layer.weight[own], layer.inputs.gram)
            for energy in (lost, whole):
                self.ranks.sum(energy)
            self.outcome.errors[layer.name] = float(lost / whole) if whole else 0.0
        self.block.set(f"{linear}.weight", weight)

    def _fold_into_norm(self, input_group: InputGroup, group: Group) -> Tensor | None:
        """Find a factor for the group's inputs and divide the norm that writes them by it."""
        if not ("norm" in self.method.folds and input_group.writer_is_norm):
            return None
        factor = self.ranks.of_first(lambda: self.method.scale(group))
        self._divide(f"{input_group.writer}.weight", factor)
        return factor

    def _snap(self, input_group: InputGroup, factor: Tensor) -> Tensor:
        """Move a factor to the nearest by which the stored norm is divided without rounding.

        The divided norm is rounded first, and the factor follows from it.
        """
        stored = self.block.stored[f"{input_group.writer}.weight"]
        norm = stored.to(factor.device).float()
        rounded = (norm / factor).to(stored.dtype).float()
        return torch.where(rounded == 0, torch.ones_like(factor), norm / rounded)

    def prepare(
        self, last: InputGroup, hidden: Stream, parts: tuple[ForwardPart, ForwardPart]
    ) -> None:
        """Scale the columns of the linear that ends a half, and divide its writer's rows.

        Both are changed before either is quantized, on what some of the windows show of the
        unquantized block: dividing the writer afterwards would round its stored scales anew.
        """
        rows = self.block.stored[f"{last.writer}.weight"].shape[0]
        (linear,) = last.linears
        if "linear" not in self.method.folds or rows != self.block.linear(linear).in_features:
            return  # v writes fewer channels than o reads: grouped-query attention
        before, _ = self.ranks.place(hidden.shape[0])
        which = slice(-before % PREVIEW, None, PREVIEW)
        some = hidden[which]
        wide = some.new_empty(*some.shape[:2], rows)
        into, out = parts
        windows = self.windows.some(which)
        inputs = self.gather(last, some, lambda batch: out(into(batch)), wide, windows)
        with self.clock.timing("solving"):
            group = Group((self._layer(linear, inputs),))
            factor = self.ranks.of_first(lambda: self.method.scale(group))
        stored = self.block.stored
        stored[f"{linear}.weight"] = stored[f"{linear}.weight"].float() * factor.cpu()
        writer = f"{last.writer}.weight"
        stored[writer] = stored[writer].float() / factor.cpu()[:, None]
        if f"{last.writer}.bias" in stored:
            self._divide(f"{last.writer}.bias", factor)

    def _divide(self, parameter: str, factor: Tensor) -> None:
        stored = self.block.stored[parameter]
        divided = (stored.float() / factor.to(stored.device)).to(stored.dtype)
        self.block.stored[parameter] = divided
        self.block.set(parameter, divided)

    def _collect_dense(self) -> None:
        linears = {f"{name}.weight" for each in self.groups for name in each.linears}
        for name, value in self.block.stored.items():
            if name not in linears:
                self.outcome.dense[f"{self.block.name}.{name}"] = value


def _weight_error(weight: Tensor, quantized: QuantizedTensor) -> float:
    """Return the squared error of the weights, relative to the weights."""
    lost, whole = (torch.zeros((), dtype=torch.float64, device=weight.device) for _ in range(2))
    for rows in row_pieces(quantized.shape, weight.device):
        given = weight[rows].float().flatten()
        error = quantized.rows(rows).flatten().to(given.device).sub_(given)
        whole += given.dot(given)
        lost += error.dot(error)
    return float(lost / whole) if whole else 0.0
