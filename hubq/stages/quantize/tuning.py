"""What a method that tunes learns from: the unquantized model, block beside block.

A tuned walk keeps two streams of hidden states, of equal size: what the quantized blocks pass on,
and what the unquantized ones do. Both are kept together, so a killed run goes on.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from hubq.machine.progress import Progress
from hubq.sources.shards import Weights
from hubq.sources.skeleton import Skeleton
from hubq.stages.quantize.block import Block
from hubq.stages.quantize.resuming import Keeper, States
from hubq.stages.quantize.streams import Room, Stream, settled
from hubq.stages.quantize.windows import EVERY, Counted, Windows
from hubq.tensors import QuantizedTensor

PIECE = 4096  # rows of the head, that are in memory at once


@dataclass(frozen=True)
class Teacher:
    """What the unquantized model makes of the calibration windows."""

    hidden: Stream  # (windows, length, hidden): what reaches a block; `advance` moves it on
    entropy: Tensor  # (windows, length) float32: of each next-token prediction, in nats
    windows: Windows = EVERY

    def advance(self, block: Block) -> None:
        """Run an unquantized block, in place."""
        for window in self.windows.batches(self.hidden.shape):
            self.hidden[window] = block.forward(self.hidden[window])


@torch.no_grad()
def prediction_entropy(  # noqa: PLR0913 - what it reads, with what, and where it is kept
    hidden: Stream,
    skeleton: Skeleton,
    weights: Weights,
    states: States,
    progress: Progress,
    windows: Windows = EVERY,
) -> Tensor:
    """Return the entropy of each next token under the unquantized model, (windows, length).

    It is 0 for tokens that don't count.

    `hidden` (windows, length, hidden) is what reaches the first block. What leaves the blocks is
    kept among the states, and in the end the entropy, so a killed pass goes on.
    """
    blocks, passed = len(skeleton.blocks), states.passed()
    kept = states.read(passed) if passed else {"hidden": settled(hidden)}
    if passed > blocks:
        return kept["entropy"].to(hidden.device)
    teacher = Teacher(Room.of(hidden).copy(kept["hidden"]), torch.empty(0), windows)
    with Keeper(states) as keeper, progress.task("Reading as the base does", blocks + 1) as advance:
        advance(passed)
        for number in range(passed, blocks):
            block = Block(skeleton, number, weights)
            teacher.advance(block)
            block.free()
            keeper.offer(number + 1, {"hidden": settled(teacher.hidden)}, is_last=False)
            advance(1)
        entropy = _entropy(teacher.hidden, skeleton, weights, windows)
        keeper.offer(blocks + 1, {"entropy": entropy}, is_last=True)
        advance(1)
    return entropy


def _entropy(hidden: Stream, skeleton: Skeleton, weights: Weights, windows: Windows) -> Tensor:
    """Return the entropy of the softmax of the head's logits, summed piece by piece of the head.

    With m the largest logit l, z = sum of exp(l - m) and s = sum of exp(l - m) (l - m), which is
    log z - s / z. The hidden states are normed in place.
    """
    norm = weights.read(f"{skeleton.family.norm}.weight").to(hidden.device, hidden.dtype)
    for window in windows.batches(hidden.shape):
        hidden[window] = torch.func.functional_call(
            skeleton.norm, {"weight": norm}, (hidden[window],)
        )
    most = torch.full(hidden.shape[:2], -torch.inf, device=hidden.device)
    total, moment = torch.zeros_like(most), torch.zeros_like(most)
    for piece in _head(skeleton, weights):
        rows = piece.to(hidden.device, hidden.dtype)
        for here in windows.batches(hidden.shape):
            logits = (hidden[here] @ rows.T).float()
            raised = torch.maximum(most[here], logits.amax(-1))
            fall = (most[here] - raised).nan_to_num_(neginf=0)  # of the m so far
            shrunk = fall.exp() * total[here]
            logits -= raised[..., None]
            shares = logits.exp()
            moment[here] = fall.exp() * moment[here] + fall * shrunk + (shares * logits).sum(-1)
            total[here] = shrunk + shares.sum(-1)
            most[here] = raised
    entropy = total.log() - moment / total
    if windows.weights is None:
        return entropy
    return entropy.where(windows.weights.to(entropy.device) > 0, 0)


def _head(skeleton: Skeleton, weights: Weights) -> Iterator[Tensor]:
    """Read the head's rows, which are the embeddings' where the two are tied."""
    family = skeleton.family
    tied = skeleton.config.tie_word_embeddings
    name = f"{family.embeddings if tied else family.head}.weight"
    size = weights.info[name].shape[0]
    for begin in range(0, size, PIECE):
        yield weights.rows(name, torch.arange(begin, min(begin + PIECE, size)))


class BlockTuning:
    """A block whose linears are quantized, as `Tuning` in hubq/methods/__init__.py describes it."""

    def __init__(
        self,
        block: Block,
        quantized: Mapping[str, QuantizedTensor],
        entering: Stream,  # (windows, length, hidden)
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
        return self.entering.shape[0]

    def weight(self, name: str) -> Tensor:
        """Return a linear's weight before quantization, (out, in) float32."""
        stored = self.block.stored[f"{self.inside(name)}.weight"]
        return stored.to(self.block.skeleton.device).float()

    def inputs(self, windows: Tensor) -> Tensor:
        """Return what the quantized blocks before feed this one, (windows, length, hidden)."""
        return self._trimmed(self.entering[windows], windows)

    def targets(self, windows: Tensor) -> Tensor:
        """Return what this block puts out in the unquantized model, (windows, length, hidden)."""
        return self._trimmed(self.teacher.hidden[windows], windows)

    def entropy(self, windows: Tensor) -> Tensor:
        """Return that of each token's prediction by the unquantized model, (windows, length)."""
        return self._trimmed(self.teacher.entropy[windows], windows)

    def weights(self, windows: Tensor) -> Tensor | None:
        """Return how much each token counts, (windows, length); None: all alike."""
        every = self.teacher.windows.weights
        if every is None:
            return None
        return self._trimmed(every[windows].to(self.entering.device), windows)

    def _trimmed(self, values: Tensor, windows: Tensor) -> Tensor:
        return self.teacher.windows.trimmed(values, windows)

    def forward(self, inputs: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Run the block with other weights; differentiable by inputs and weights."""
        return self.block.forward(
            inputs, {f"{self.inside(name)}.weight": value for name, value in weights.items()}
        )

    def inside(self, name: str) -> str:
        """Return a linear's name inside the block."""
        return name.removeprefix(f"{self.block.name}.")


def pass_on(block: Block, tuning: BlockTuning, hidden: Stream) -> dict[str, float]:
    """Run a tuned block over hidden states, in place; return each linear's relative error."""
    linears = {name: block.linear(tuning.inside(name)) for name in tuning.quantized}
    energies = {name: _Energy(tuning.weight(name)) for name in linears}
    windows = tuning.teacher.windows
    with _watched(linears, energies):
        for window in windows.batches(hidden.shape):
            for energy in energies.values():
                energy.counted = windows.counted(window)
            hidden[window] = block.forward(hidden[window])
    return {name: energy.relative for name, energy in energies.items()}


class _Energy:
    """The squared outputs of a linear, and of what its quantized weight adds to them."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.counted: Counted | None = None  # of the batch that comes
        self.lost = self.whole = 0.0

    def __call__(self, linear: torch.nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(linear.weight, Tensor)
        (given,) = inputs
        if self.counted is not None:
            given = self.counted.rooted(self.counted.of(given))
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
