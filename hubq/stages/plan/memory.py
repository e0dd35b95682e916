"""What quantizing holds at most, on a GPU and in the host's memory: arithmetic, no measurement.

A walk's peak is one of a few moments: while a half of a block runs and its statistics are gathered,
or while a group of its linears is solved. Allocations are counted in
tests/stages/plan/test_memory_needed.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from hubq.machine.device import DTYPES
from hubq.machine.memory import Place, asked_place, free_memory

if TYPE_CHECKING:
    import torch

    from hubq.methods import Method, Need
    from hubq.methods.adapters.low_rank import LowRank
    from hubq.records.plan import Plan, PlannedVision
    from hubq.sources.shards import TensorInfo
    from hubq.stages.recipe.recipe import Recipe

# Bytes: torch, transformers and numba take 0.5 GB, tokenizing a text of 10 MB as much again.
OVERHEAD = 1_000_000_000
CONTEXT = 1_000_000_000  # bytes of a GPU: CUDA's context, its libraries' workspace, fragments
TRAINED = 24  # bytes a weight in training
BATCH = 4  # windows of a recipe in a step of training
WALKED = 4096  # tokens that run through a block at once
BLOCK = 128  # columns of a layer that are rounded or fitted at a time


class Memory(NamedTuple):
    """Bytes that quantizing holds at most; without a GPU all of them are the host's."""

    device: int
    host: int


@dataclass(frozen=True)
class Walked:
    """A recipe's walk through a model that is known by its config and its tensors' headers.

    `dtype` is what the text runs through the model in; None where there is no text. A walk that
    corrects a quantized model takes what its adapter holds, where others take what the method does.
    `eyes` are the parameters that see, which are in memory before the walk if there are pictures.
    """

    recipe: "Recipe"
    config: Mapping[str, Any]
    tensors: "Mapping[str, TensorInfo]"
    dtype: str | None
    correction: "LowRank | None" = None
    eyes: int = 0

    def memory(self, place: Place, *, gpu: bool) -> Memory:
        """Return what it takes where the hidden states lie in a place.

        On the device: a block in the dtype that it runs in, and the largest of the moments. On the
        host: the block as its file has it, with what it becomes, and the streams that lie there,
        each rounded up to a power of two, as pinned memory is given out. Embeddings and head are
        copied piece by piece; only a head that is rounded is whole in memory, after the last block,
        with its float32 copies.
        """
        stored = sum(info.end - info.begin for info in self._block())
        head = 0 if self.recipe.embeddings == 16 else 5 * self._embedding_bytes()
        walking = max(self._moments(on_device=place == "device" or not gpu, gpu=gpu))
        eyes, pictures = self._seeing()
        if not gpu:
            return Memory(0, OVERHEAD + max(stored + self._copied() + walking, head, pictures))
        streams = sum(map(_pinned, self._streams())) if place == "host" else 0
        running = sum(self._size * prod(info.shape) for info in self._block())
        host = OVERHEAD + max(2 * stored + streams, head, pictures)
        return Memory(CONTEXT + max(running + walking, eyes), host)

    def _seeing(self) -> tuple[int, int]:
        """Return what looking at pictures takes on the device that does it, and on the host.

        What sees, and some of it again for one picture at a time. On the host all hidden states are
        made, twice while they get their dtype, and the pictures' numbers are about as many.
        """
        section = self.recipe.calibration
        if self.dtype is None or section is None or not section.sees:
            return 0, 0
        eyes, hidden = self._size * self.eyes, self._stream(self._groups()[0][0][1])
        return eyes + eyes // 2, eyes + eyes // 2 + 3 * hidden

    def place(self, device: "torch.device") -> Place:
        """Return where the hidden states of a run on this device lie: on it, where they fit.

        Raises UserError where HUBQ_HIDDEN_STATES names no place.
        """
        asked, free = asked_place(), free_memory(device)
        if device.type == "cpu":  # its memory is the host's
            return "disk" if asked == "disk" else "device"
        if asked is not None or free is None:
            return asked or "device"
        return "device" if self.memory("device", gpu=True).device <= free else "host"

    def _moments(self, *, on_device: bool, gpu: bool) -> Iterator[int]:
        """Yield the bytes of each moment on the device, without the block."""
        groups = self._groups()
        if self.dtype is None or self.recipe.calibration is None:
            yield from map(self._solving, groups)
            return
        hidden = self._stream(groups[0][0][1]) if on_device else 0
        waiting = 2 * hidden if self._solver.tunes else 0
        normed = 0 if gpu else hidden
        for first, last in (groups[:2], groups[2:]):
            wide = self._stream(last[0][1]) if on_device else 0
            yield waiting + hidden + normed + self._gathering(first)
            yield waiting + hidden + normed + self._solving(first)
            yield waiting + hidden + normed + wide + self._gathering(last)
            yield waiting + hidden + wide + self._solving(last)
        if self._solver.tunes:
            yield waiting + hidden + self._training()

    def _gathering(self, group: list[tuple[int, int]]) -> int:
        """Return what a batch takes on its way to a group: some copies of it, and the Gram matrix.

        A feed-forward holds four as wide as its end's input in the dtype that it runs in, and the
        statistics take one in float32.
        """
        columns = group[0][1]
        batch = self._batch * columns * (4 * self._size + 4)
        return batch + 4 * columns**2 * ("gram" in self._needed)

    def _solving(self, group: list[tuple[int, int]]) -> int:
        """Return what solving a group takes: its weights in float32, and what the method holds."""
        holds = self.recipe.method.held if self.correction is None else self.correction.holds
        sizes = [prod(shape) for shape in group]
        working = sum(sizes) if holds.together else max(sizes)
        block = working // group[0][1] * min(BLOCK, group[0][1])
        grams = holds.grams * group[0][1] ** 2
        return round(4 * (sum(sizes) + holds.weights * working + holds.block * block + grams))

    def _training(self) -> int:
        """Return what training a block holds beside the hidden states that wait to enter it.

        TRAINED bytes a weight: itself, its gradient, Adam's two averages in float32, and its planes
        and values as the block runs; of a batch, what the way back needs of the way forward.
        """
        linears = [shape for group in self._groups() for shape in group]
        section, outputs = self.recipe.calibration, sum(map(sum, linears))
        tokens = self._some(BATCH * section.length) if section else 0
        return TRAINED * sum(map(prod, linears)) + tokens * 2 * self._size * outputs

    def _streams(self) -> Iterator[int]:
        """Yield the bytes of each stream that lies on the host."""
        if self.dtype is None or self.recipe.calibration is None:
            return
        groups = self._groups()
        hidden = self._stream(groups[0][0][1])
        yield from [hidden] * (3 if self._solver.tunes else 1)
        yield from {self._stream(groups[last][0][1]) for last in (1, 3)}

    def _stream(self, width: int) -> int:
        return self._tokens * width * self._size

    @property
    def _solver(self) -> "Method | LowRank":
        return self.recipe.method if self.correction is None else self.correction

    @property
    def _needed(self) -> "frozenset[Need]":
        return self.recipe.method.needed if self.correction is None else self.correction.needs

    @property
    def _tokens(self) -> int:
        section = self.recipe.calibration
        return section.samples * section.length if section else 0

    @property
    def _batch(self) -> int:
        """The tokens that run through a block at once: whole windows."""
        section = self.recipe.calibration
        return self._some(max(WALKED, section.length)) if section else 0

    def _some(self, tokens: int) -> int:
        return min(self._tokens, tokens)

    @property
    def _size(self) -> int:
        return DTYPES[self.dtype].width if self.dtype else 2

    def _groups(self) -> list[list[tuple[int, int]]]:
        """List the shapes of the first block's linears by the input that they share."""
        from hubq.sources.architecture import family_of

        family = family_of(self.config)

        def shape(linear: str) -> tuple[int, int]:
            out, columns = self.tensors[f"{family.blocks}.0.{linear}.weight"].shape
            return out, columns

        return [[shape(linear) for linear in group.linears] for group in family.groups]

    def _block(self) -> "Iterator[TensorInfo]":
        """Yield the tensors of the first block."""
        from hubq.sources.architecture import family_of

        start = f"{family_of(self.config).blocks}.0."
        return (info for name, info in self.tensors.items() if name.startswith(start))

    def _copied(self) -> int:
        """Return the bytes of the block as it runs; none where that is as the file has it."""
        if self.dtype is None:
            return 0
        header = DTYPES[self.dtype].header
        others = (info for info in self._block() if info.dtype != header)
        return sum(self._size * prod(info.shape) for info in others)

    def _embedding_bytes(self) -> int:
        from hubq.sources.architecture import family_of

        info = self.tensors[f"{family_of(self.config).embeddings}.weight"]
        return info.end - info.begin


def walk_of(plan: "Plan", dtype: str | None, correction: "LowRank | None" = None) -> Walked:
    """Return the walk of a plan's recipe, of which no more is known than the plan says."""
    from hubq.sources.shards import TensorInfo
    from hubq.stages.recipe.recipe import Recipe

    header, width = DTYPES[plan.dtype]
    tensors = {
        f"{each.name}.weight": TensorInfo("", header, each.shape, 0, width * prod(each.shape))
        for each in plan.modules
    }
    config = {"architectures": [plan.architecture]}
    recipe, eyes = Recipe.model_validate(plan.recipe), parameters_of(plan.vision)
    return Walked(recipe, config, tensors, dtype, correction, eyes)


def parameters_of(vision: "PlannedVision | None") -> int:
    """Count the parameters that see; none in a model that reads text alone."""
    return 0 if vision is None else vision.parameters


def _pinned(size: int) -> int:
    """Return what torch's allocator of pinned memory takes for so many bytes."""
    return 1 << max(0, size - 1).bit_length()
