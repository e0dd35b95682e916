"""The engine of all methods: quantize one decoder block while the calibration data flows through.

A group of linears is solved when every calibration token has reached it, on the inputs that the
quantized part of the model really feeds it; the pass goes on with the quantized weights. So a block
costs one forward pass, and memory holds one block and the hidden states, whatever the model's size.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hubq.architecture import Sharing
from hubq.block import Block, batches
from hubq.clock import Clock
from hubq.method import Group, Inputs, Layer, Method
from hubq.statistics import Gathering
from hubq.tensors import QuantizedTensor

ForwardPart = Callable[[Tensor], Tensor]


@dataclass
class Outcome:
    """What a walk made of one block."""

    quantized: dict[str, QuantizedTensor] = field(default_factory=dict)  # by module, full name
    dense: dict[str, Tensor] = field(default_factory=dict)  # by parameter, in the file's dtype
    errors: dict[str, float] = field(default_factory=dict)  # by module: relative output error


class Walk:
    """One block on its way through a method."""

    def __init__(
        self, block: Block, method: Method, scale_dtype: torch.dtype, clock: Clock
    ) -> None:
        self.block = block
        self.method = method
        self.scale_dtype = scale_dtype
        self.clock = clock
        self.outcome = Outcome()
        self.divided: Tensor | None = None  # what a linear writer's rows were divided by

    @torch.inference_mode()
    def run(self, hidden: Tensor | None, solved: Callable[[], None]) -> Outcome:
        """Quantize the block; `hidden` (windows, length, hidden) becomes the block's output.

        `solved` is called after each group. Without hidden states nothing is run forward.
        """
        if hidden is None:
            for group in self.groups:
                self._solve(group, Inputs(tokens=0))
                solved()
        else:
            self._flow(hidden, solved)
        self._collect_dense()
        return self.outcome

    def _flow(self, hidden: Tensor, solved: Callable[[], None]) -> None:
        query, output, gate, down = self.block.skeleton.family.groups
        block = self.block
        self._solve(query, self._inputs(query, hidden, block.into_attention, None))
        solved()
        self._through(output, hidden, block.out_of_attention)
        solved()
        self._solve(gate, self._inputs(gate, hidden, block.into_feed_forward, None))
        solved()
        self._through(down, hidden, block.out_of_feed_forward)
        solved()

    def _through(self, group: Sharing, hidden: Tensor, part: ForwardPart) -> None:
        """Run a part of the block, solve the linear that ends it, and add its output."""
        linear = self.block.linear(group.linears[0])
        wide = hidden.new_empty(*hidden.shape[:2], linear.in_features)
        self._solve(group, self._inputs(group, hidden, part, wide))
        with self.clock.timing("forward"):
            for window in batches(*hidden.shape[:2]):
                if self.divided is not None:
                    wide[window] /= self.divided.to(wide)
                hidden[window] += linear(wide[window])

    def _inputs(
        self, group: Sharing, hidden: Tensor, part: ForwardPart, keep: Tensor | None
    ) -> Inputs:
        """Gather what reaches a group, window by window, and keep it where the pass goes on."""
        width = self.block.linear(group.linears[0]).in_features
        gathering = Gathering(self.method.needs, width, hidden.device)
        for window in batches(*hidden.shape[:2]):
            with self.clock.timing("forward"):
                inputs = part(hidden[window])
                if keep is not None:
                    keep[window] = inputs
            with self.clock.timing("hessian"):
                gathering.add(inputs)
        return gathering.result(f"{self.block.name}.{group.linears[0]}")

    def _solve(self, sharing: Sharing, inputs: Inputs) -> None:
        with self.clock.timing("solving"):
            group = Group(
                tuple(self._layer(linear, inputs) for linear in sharing.linears),
                lambda factor: self._snap(sharing, factor),
            )
            factor = self._fold(sharing, group)
            if factor is not None:
                group = group.scaled(factor)
            results = self.method.quantize_group(group)
            for linear, layer, result in zip(sharing.linears, group.layers, results, strict=True):
                weight = result.dequantize()
                self.outcome.quantized[layer.name] = result
                self._measure(layer, weight)
                self.block.set(f"{linear}.weight", weight)

    def _layer(self, linear: str, inputs: Inputs) -> Layer:
        weight = self.block.stored[f"{linear}.weight"].to(self.block.skeleton.device).float()
        return Layer(f"{self.block.name}.{linear}", weight, inputs, self.scale_dtype)

    def _measure(self, layer: Layer, quantized: Tensor) -> None:
        """Record the squared output error on the calibration tokens, relative to the output."""
        if layer.inputs.gram is None:
            return
        error = quantized - layer.weight
        lost = ((error @ layer.inputs.gram) * error).sum()
        whole = ((layer.weight @ layer.inputs.gram) * layer.weight).sum()
        self.outcome.errors[layer.name] = float(lost / whole) if whole else 0.0

    def _fold(self, sharing: Sharing, group: Group) -> Tensor | None:
        """Ask for a factor and divide the writer by it, where the writer's channels match."""
        self.divided = None
        writer = self.block.stored[f"{sharing.writer}.weight"]
        if writer.shape[0] != group.layers[0].weight.shape[1]:
            return None  # v writes fewer channels than o reads: grouped-query attention
        factor = self.method.scale(group)
        if factor is None:
            return None
        if sharing.writer_is_norm:
            self._divide(f"{sharing.writer}.weight", factor)
        else:
            name = f"{self.block.name}.{sharing.writer}"
            self.outcome.quantized[name] = self.outcome.quantized[name].divide_rows(factor)
            if f"{sharing.writer}.bias" in self.block.stored:
                self._divide(f"{sharing.writer}.bias", factor)
            self.divided = factor
        return factor

    def _divide(self, parameter: str, factor: Tensor) -> None:
        stored = self.block.stored[parameter]
        divided = (stored.float() / factor.to(stored.device)).to(stored.dtype)
        self.block.stored[parameter] = divided
        self.block.set(parameter, divided)

    def _snap(self, sharing: Sharing, factor: Tensor) -> Tensor:
        """Move a factor to the nearest that the writer's dtype divides by without rounding.

        A norm's weight is rounded first and the factor follows from it; a linear's rows take a
        power of two, which only moves exponents.
        """
        if not sharing.writer_is_norm:
            return factor.log2().round().exp2()
        stored = self.block.stored[f"{sharing.writer}.weight"]
        norm = stored.to(factor.device).float()
        rounded = (norm / factor).to(stored.dtype).float()
        return torch.where(rounded == 0, torch.ones_like(factor), norm / rounded)

    def _collect_dense(self) -> None:
        linears = {f"{name}.weight" for each in self.groups for name in each.linears}
        for name, value in self.block.stored.items():
            if name not in linears:
                self.outcome.dense[f"{self.block.name}.{name}"] = value

    @property
    def groups(self) -> tuple[Sharing, ...]:
        """The groups of the block's family."""
        return self.block.skeleton.family.groups
