"""What adapting holds at most: arithmetic on a plan's shapes, no measurement.

Training's peak is while the last logits are there, or while a block is run again on the way back;
below both lie the codes, all that isn't quantized, and what is trained with its averages. A
correction in closed form walks block by block, as quantizing does (memory.py).
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch

from hubq.formats import format_named, scale_dtype
from hubq.machine.device import DTYPES
from hubq.methods.adapters import Adapter, TrainedAdapter
from hubq.methods.adapters.low_rank import LowRank
from hubq.methods.adapters.qlora import QLoRA
from hubq.records.plan import Plan
from hubq.sources.architecture import FAMILIES
from hubq.stages.plan.memory import CONTEXT, OVERHEAD, Memory, walk_of
from hubq.stages.recipe.recipe import Recipe
from hubq.tensors import QuantizedTensor
from hubq.tensors.thin import WIDTHS

LEARNT = 16  # bytes of a parameter: itself, its gradient and AdamW's two averages, in float32
# Of a logit, beside itself and its gradient in the dtype that the model runs in: its copy in
# float32, the logarithm of its probability, and the gradient of that.
SCORED = 12
LOGITS = 1 << 26  # that are there at once at most: 256 MiB in float32


@dataclass(frozen=True)
class Adapting:
    """A plan's model with what its recipe adapts of it; `dtype` is what it runs in meanwhile."""

    recipe: Recipe
    plan: Plan
    dtype: str

    @property
    def adapter(self) -> Adapter:
        """What the recipe asks for."""
        assert self.recipe.adapt is not None, "only such recipes come here"
        return self.recipe.adapt

    @cached_property
    def linears(self) -> tuple[QuantizedTensor, ...]:
        """Sketch the linears of one block; all blocks are alike."""
        first = f"{FAMILIES[self.plan.architecture].blocks}.0."
        scales = scale_dtype(self.plan.dtype, format_named(self.recipe.format))
        return tuple(
            self.recipe.method.sketch(each.shape, scales)
            for each in self.plan.modules
            if each.name.startswith(first)
        )

    @property
    def blocks(self) -> int:
        """How many there are."""
        start = f"{FAMILIES[self.plan.architecture].blocks}."
        return sum(each.name.startswith(start) for each in self.plan.modules) // len(self.linears)

    @property
    def weights(self) -> int:
        """Those of all linears."""
        return self.blocks * sum(prod(each.shape) for each in self.linears)

    @property
    def parameters(self) -> int:
        """How many are trained, or added in closed form."""
        return self.blocks * sum(map(self.adapter.parameters, self.linears))

    @property
    def added_bits(self) -> int:
        """All the bits that the result stores beyond those of the quantized linears."""
        return self.blocks * sum(map(self.adapter.added_bits, self.linears))

    def memory(self, *, gpu: bool) -> Memory:
        """Return what it takes; without a GPU all of it is the host's."""
        moments: list[Memory] = []
        if "gram" in self.adapter.needs:
            moments.append(self._correcting(gpu=gpu))
        if isinstance(self.adapter, TrainedAdapter):
            most = self._training(self.adapter)
            block = -(-self.plan.bytes // self.blocks)  # as its file has it, and copied from there
            trained = Memory(CONTEXT + most, OVERHEAD + 2 * block)
            moments.append(trained if gpu else Memory(0, OVERHEAD + most))
        return Memory(max(each.device for each in moments), max(each.host for each in moments))

    def _correcting(self, *, gpu: bool) -> Memory:
        """Return what the walk over the calibration text takes, where its states fit."""
        adapter = self.adapter
        correction = adapter if isinstance(adapter, LowRank) else LowRank(rank=self._rank)
        return walk_of(self.plan, self.dtype, correction).memory("device", gpu=gpu)

    def _training(self, adapter: TrainedAdapter) -> int:
        """Return what a step holds.

        Of a linear its inputs and outputs are kept on the way forward, and as much again is there
        between; with dropout, the inputs that are left as well. Scales get their gradient from
        both in float32.
        """
        vocabulary, hidden = self._embeddings
        pairs = min(adapter.batch_size, adapter.at_once or adapter.batch_size)
        tokens = pairs * (adapter.source_length + adapter.target_length)
        kept = 2 * self._width * sum(sum(each.shape) for each in self.linears)
        if getattr(adapter, "dropout", 0):
            kept += self._width * sum(each.shape[1] for each in self.linears)
        if adapter.makes == "checkpoint":
            kept += 4 * max(sum(each.shape) for each in self.linears)
        dequantized = self._width * max(prod(each.shape) for each in self.linears)
        scored = min(pairs * adapter.target_length * vocabulary, LOGITS)
        inputs = self.blocks * tokens * hidden * self._width
        passing = inputs + max(tokens * kept + dequantized, scored * (2 * self._width + SCORED))
        return self._resident + LEARNT * self.parameters + passing

    @property
    def _resident(self) -> int:
        """Return the bytes of the model that stays: codes as they lie in memory, and the rest."""
        rest = self.plan.parameters - self.weights
        packed = self.adapter.makes == "adapter"  # where scales are trained, codes lie a byte each
        codes = sum(bytes_of(each, packed=packed) for each in self.linears)
        return self.blocks * codes + self._width * rest

    @property
    def _embeddings(self) -> tuple[int, int]:
        """The shape of the embeddings: words and width."""
        name = FAMILIES[self.plan.architecture].embeddings
        return next(each.shape for each in self.plan.modules if each.name == name)

    @property
    def _rank(self) -> int:
        assert isinstance(self.adapter, QLoRA), "the other adapter that reads a text"
        return self.adapter.rank

    @property
    def _width(self) -> int:
        return DTYPES[self.dtype].width


def bytes_of(value: object, *, packed: bool, bits: int = 8) -> int:
    """Return the bytes that a quantized tensor, which may be a sketch, takes in memory.

    Packed, codes and flags take the next width that divides a byte.
    """
    if isinstance(value, torch.Tensor):
        if not packed or value.dtype not in (torch.uint8, torch.bool):
            return value.nbytes
        width = 1 if value.dtype == torch.bool else next(each for each in WIDTHS if bits <= each)
        return -(-value.numel() * width // 8)
    if isinstance(value, tuple):
        return sum(bytes_of(each, packed=packed, bits=bits) for each in value)
    if not isinstance(value, QuantizedTensor):
        return 0
    bits = getattr(value, "bits", 8)
    return sum(bytes_of(each, packed=packed, bits=bits) for each in vars(value).values())
