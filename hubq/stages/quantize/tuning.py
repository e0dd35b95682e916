"""The walk's side of `tune`: a quantized block beside the same block of the unquantized model.

A tuned walk keeps two streams of hidden states, of equal size: what the quantized blocks pass on,
and what the unquantized ones do. Both are saved with each finished block, so a killed run goes on.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from hubq.stages.quantize.block import Block, batches
from hubq.stages.quantize.teacher import Teacher
from hubq.tensors import QuantizedTensor


class BlockTuning:
    """A block whose linears are quantized, as `Tuning` in hubq/methods/__init__.py describes it."""

    def __init__(
        self,
        block: Block,
        quantized: Mapping[str, QuantizedTensor],
        entering: Tensor,  # (windows, length, hidden)
        teacher: Teacher,  # its hidden states are those that leave the block
        epoch_done: Callable[[], None] = lambda: None,
    ) -> None:
        self.block = block
        self.quantized = quantized
        self.entering = entering
        self.teacher = teacher
        self.epoch_done = epoch_done

    @property
    def windows(self) -> int:
        """How many calibration windows there are."""
        return len(self.entering)

    def weight(self, name: str) -> Tensor:
        """Return a linear's weight before quantization, (out, in) float32."""
        stored = self.block.stored[f"{self.inside(name)}.weight"]
        return stored.to(self.block.skeleton.device).float()

    def inputs(self, windows: Tensor) -> Tensor:
        """Return what the quantized blocks before feed this one, (windows, length, hidden)."""
        return self.entering[windows]

    def targets(self, windows: Tensor) -> Tensor:
        """Return what this block puts out in the unquantized model, (windows, length, hidden)."""
        return self.teacher.hidden[windows]

    def entropy(self, windows: Tensor) -> Tensor:
        """Return that of each token's prediction by the unquantized model, (windows, length)."""
        return self.teacher.entropy[windows]

    def forward(self, inputs: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Run the block with other weights; differentiable by inputs and weights."""
        return self.block.forward(
            inputs, {f"{self.inside(name)}.weight": value for name, value in weights.items()}
        )

    def inside(self, name: str) -> str:
        """Return a linear's name inside the block."""
        return name.removeprefix(f"{self.block.name}.")


def pass_on(block: Block, tuning: BlockTuning, hidden: Tensor) -> dict[str, float]:
    """Run a tuned block over hidden states, in place; return each linear's relative error."""
    linears = {name: block.linear(tuning.inside(name)) for name in tuning.quantized}
    energies = {name: _Energy(tuning.weight(name)) for name in linears}
    with _watched(linears, energies):
        for window in batches(*hidden.shape[:2]):
            hidden[window] = block.forward(hidden[window])
    return {name: energy.relative for name, energy in energies.items()}


class _Energy:
    """The squared outputs of a linear, and of what its quantized weight adds to them."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.lost = self.whole = 0.0

    def __call__(self, linear: torch.nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(linear.weight, Tensor)
        (given,) = inputs
        error = linear.weight - self.weight
        self.lost += _square(given, error)
        self.whole += _square(given, self.weight)

    @property
    def relative(self) -> float:
        return self.lost / self.whole if self.whole else 0.0


def _square(inputs: Tensor, weight: Tensor) -> float:
    outputs = torch.nn.functional.linear(inputs, weight.to(inputs.dtype))
    return float(outputs.float().square().sum())


@contextmanager
def _watched(
    linears: Mapping[str, torch.nn.Linear], watchers: Mapping[str, _Energy]
) -> Iterator[None]:
    """Let watchers see what reaches the linears of the same names, inside the context."""
    hooks = [linears[name].register_forward_hook(each) for name, each in watchers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
