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
from hubq.products import output_energy
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
        block = self.block
        query, output, gate, down = self.groups
        self._half(query, output, hidden, (block.into_attention, block.out_of_attention), solved)
        self._half(gate, down, hidden, (block.into_feed_forward, block.out_of_feed_forward), solved)

    def _half(
        self,
        first: Sharing,
        last: Sharing,
        hidden: Tensor,
        parts: tuple[ForwardPart, ForwardPart],
        solved: Callable[[], None],
    ) -> None:
        """Run attention or feed-forward: solve what begins it and what ends it, add its output."""
        into, out = parts
        normed = torch.empty_like(hidden)
        inputs = self._gather(first, hidden, into, normed)
        folded = self._solve(first, inputs)
        solved()
        linear = self.block.linear(last.linears[0])
        wide = hidden.new_empty(*hidden.shape[:2], linear.in_features)
        if folded is None:
            inputs = self._gather(last, normed, out, wide)
        else:
            inputs = self._gather(last, hidden, lambda batch: out(into(batch)), wide)
        folded = self._solve(last, inputs)
        with self.clock.timing("forward"):
            for window in batches(*hidden.shape[:2]):
                if folded is not None:
                    wide[window] /= folded.to(wide)
                hidden[window] += linear(wide[window])
        solved()

    def _gather(self, group: Sharing, source: Tensor, part: ForwardPart, keep: Tensor) -> Inputs:
        """Run a part over all windows, keep what reaches a group and gather its statistics."""
        gathering = Gathering(self.method.needs, keep.shape[-1], keep.device)
        for window in batches(*source.shape[:2]):
            with self.clock.timing("forward"):
                keep[window] = part(source[window])
            with self.clock.timing("hessian"):
                gathering.add(keep[window])
        return gathering.result(f"{self.block.name}.{group.linears[0]}")

    def _solve(self, sharing: Sharing, inputs: Inputs) -> Tensor | None:
        """Quantize a group, and return the factor (in,) that was folded into its writer."""
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
        return factor

    def _layer(self, linear: str, inputs: Inputs) -> Layer:
        weight = self.block.stored[f"{linear}.weight"].to(self.block.skeleton.device).float()
        return Layer(f"{self.block.name}.{linear}", weight, inputs, self.scale_dtype)

    def _measure(self, layer: Layer, quantized: Tensor) -> None:
        """Record the squared output error on the calibration tokens, relative to the output."""
        if layer.inputs.gram is None:
            return
        lost = output_energy(quantized - layer.weight, layer.inputs.gram)
        whole = output_energy(layer.weight, layer.inputs.gram)
        self.outcome.errors[layer.name] = float(lost / whole) if whole else 0.0

    def _fold(self, sharing: Sharing, group: Group) -> Tensor | None:
        """Ask for a factor and divide the writer by it, where the writer's channels match."""
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
