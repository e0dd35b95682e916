"""How far a model is from the release that it should be: files, then codes, then weights.

Two folders are read a matrix at a time. What has the same bytes is told by these alone; of the rest
codes are counted that differ, scales and zeros likewise, and weights are subtracted as their
readers dequantize them. What a release holds is a stranger's: what can't be read is refused.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.formats import formats
from hubq.formats.dense import Plain
from hubq.machine.files import read_object
from hubq.machine.progress import Progress
from hubq.records.reproduction import Apart
from hubq.sources.language_part import Whole, opened
from hubq.sources.shards import Weights
from hubq.sources.skeleton import FAULTS
from hubq.sources.source import BY_HEADER
from hubq.sources.tensor_headers import read_header
from hubq.stages.adapt.quantized_modules import DENSE, QuantizedModules
from hubq.tensors import (
    Affine,
    Binary,
    Codebook,
    Masked,
    Mixed,
    QuantizedTensor,
    Reordered,
    Rotated,
    values,
)

# Parts of a representation that say how large a level is; all others are codes.
OF_SCALES = (
    *("scale", "zero", "mean", "shift", "offset", "table", "diagonal"),
    *("divisor", "input_scale"),
)
Parts = dict[str, Tensor]


class Compared(NamedTuple):
    """What of two folders' tensors is not the same."""

    modules: int  # that are quantized on either side; of files of an adapter, its matrices
    apart: tuple[Apart, ...]
    codes: int  # of all modules

    @property
    def codes_apart(self) -> float | None:
        """The share of codes that differ; None: some don't compare."""
        counts = [each.codes_apart for each in self.apart]
        if None in counts or not self.codes:
            return None
        return sum(each for each in counts if each is not None) / self.codes


def compare_models(
    ours: Path, theirs: Path, shapes: Mapping[str, tuple[int, int]], progress: Progress
) -> Compared:
    """Compare two models' folders; `shapes` are those of modules that either side quantizes.

    Raises UserError for a release that can't be read.
    """
    whole = opened(ours).whole
    mine, other = _Side(QuantizedModules(ours), whole), _Side(_opened(theirs), whole)
    apart: list[Apart] = []
    codes = 0
    with progress.task("Comparing", len(shapes)) as advance:
        for name, shape in shapes.items():
            found = None if _is_equal(mine, other, name) else _module(mine, other, name)
            codes += found.codes if found else math.prod(shape)
            if found is not None and not _is_same(found):
                apart.append(found)
            advance(1)
    packed = {part for side in (mine, other) for name in shapes for part in side.parts(name)}
    apart += _others(mine.weights, other.weights, packed)
    return Compared(len(shapes), _farthest_first(apart), codes)


def compare_files(ours: Path, theirs: Path) -> Compared:
    """Compare the tensors of two files, such as an adapter's."""
    mine, other = (Weights(each.parent, read_header(each)) for each in (ours, theirs))
    codes = sum(math.prod(info.shape) for info in other.info.values())
    return Compared(len(other.info), _farthest_first(_others(mine, other, set())), codes)


class _Side:
    """The quantized modules of a folder, by the names that a plan gives them."""

    def __init__(self, stored: QuantizedModules, whole: Whole | None) -> None:
        self.stored, self.whole = stored, whole
        self.weights = stored.weights

    def parts(self, module: str) -> list[str]:
        """List a module's tensors, by their names in the files."""
        return self.stored.parts(module if self.whole is None else self.whole.in_files(module))

    def read(self, module: str) -> QuantizedTensor:
        """Read a module; the settings of one that sees have the names in memory."""
        parts = self.parts(module)
        if len(parts) == 1 and self.weights.info[parts[0]].dtype in BY_HEADER:
            return Plain(self.weights.read(parts[0]))  # this side doesn't quantize it
        if self.whole is None:
            return self.stored.module(module)
        there, here = self.whole.in_files(module), self.whole.in_memory(module)
        tensors = {f"{here}{part.removeprefix(there)}": self.weights.read(part) for part in parts}
        return self.stored.form.unpack(here, tensors, self.stored.quantization)


def _opened(folder: Path) -> QuantizedModules:
    """Open a release's folder; raise UserError where it names no format that hubq reads."""
    said = read_object(folder / "config.json").get("quantization_config", DENSE)
    if not isinstance(said, dict) or said.get("quant_method") not in formats():
        raise UserError(
            f"{folder / 'config.json'} names no format of hubq in its quantization_config, so the "
            "release can't be compared; it was changed after hubq published it"
        )
    return QuantizedModules(folder)


def _is_equal(mine: _Side, other: _Side, name: str) -> bool:
    """Tell whether a module has the same tensors and settings on both sides, byte for byte."""
    parts = mine.parts(name)
    return (
        mine.stored.quantization == other.stored.quantization
        and sorted(parts) == sorted(other.parts(name))
        and all(mine.weights.equals(each, other.weights, each) for each in parts)
    )


def _module(mine: _Side, other: _Side, name: str) -> Apart:
    """Compare a module's codes, scales and weights."""
    if not mine.parts(name) or not other.parts(name):
        return Apart(name=name, codes=0, codes_apart=None)
    ours = mine.read(name)
    try:
        theirs = other.read(name)
        weights = theirs.dequantize()
    except FAULTS as error:
        raise UserError(
            f"{name} of the release can't be read ({type(error).__name__}: {str(error)[:200]}): "
            "its files are damaged, or were changed after hubq published them"
        ) from error
    here, there = _parts(ours), _parts(theirs)
    codes = {key: each for key, each in there.items() if not _is_scale(key)}
    scales = {key: each for key, each in there.items() if _is_scale(key)}
    mean, largest = _distance(ours.dequantize(), weights)
    return Apart(
        name=name,
        codes=sum(each.numel() for each in codes.values()),
        codes_apart=_unequal(here, codes) if _is_alike(ours, theirs) else None,
        scales=sum(each.numel() for each in scales.values()),
        scales_apart=_unequal(here, scales) if _is_alike(ours, theirs) else None,
        mean=mean,
        largest=largest,
        step=_finite(step_of(theirs)),
    )


def _parts(tensor: QuantizedTensor) -> Parts:
    """Return the tensors and floats that a representation consists of, by their places in it."""
    found = dict(_fields(tensor))
    return {
        key: each if isinstance(each, Tensor) else torch.tensor(each)
        for key, each in found.items()
        if isinstance(each, Tensor | float)
    }


def _fields(value: object, place: str = "") -> Iterator[tuple[str, object]]:
    """Yield what a representation consists of, however deep, but for what its solver told."""
    if isinstance(value, QuantizedTensor):
        for each in fields(value):  # type: ignore[arg-type] # all of them are dataclasses
            if each.compare:
                yield from _fields(getattr(value, each.name), f"{place}.{each.name}")
    elif isinstance(value, tuple):
        for number, inner in enumerate(value):
            yield from _fields(inner, f"{place}.{number}")
    else:
        yield place, value


def _is_scale(place: str) -> bool:
    return any(each in OF_SCALES for each in place.split("."))


def _is_alike(ours: QuantizedTensor, theirs: QuantizedTensor) -> bool:
    """Tell whether two representations are of one kind, width and shape, part for part."""

    def settings(tensor: QuantizedTensor) -> list[tuple[str, object]]:
        return [
            (key, (each.shape, each.dtype) if isinstance(each, Tensor) else each)
            for key, each in _fields(tensor)
            if not isinstance(each, float)
        ]

    return type(ours) is type(theirs) and settings(ours) == settings(theirs)


def _unequal(here: Parts, there: Parts) -> int:
    """Count the numbers of some parts that differ."""
    return sum(_count(here[key], each) for key, each in there.items())


def _count(ours: Tensor, theirs: Tensor) -> int:
    """Count the numbers that differ; as wide floats, since torch compares none of 8 bits."""
    if theirs.is_floating_point():
        ours, theirs = ours.double(), theirs.double()
    return int((ours != theirs).sum())


def _is_same(found: Apart) -> bool:
    """Tell whether nothing differs that is loaded: other packing of the same codes and scales."""
    return found.codes_apart == 0 and found.scales_apart == 0 and found.largest == 0


def step_of(tensor: QuantizedTensor) -> float | None:
    """Return how far neighbouring levels of a matrix are apart, as a mean; None: not known."""
    match tensor:
        case Affine():
            return float(values(tensor.scale).mean())
        case Codebook():
            gaps = tensor.table.float().sort().values.diff()
            return float((values(tensor.scale).abs() + tensor.offset).mean() * gaps.mean())
        case Binary():
            between = 1 if tensor.unipolar else 2  # -1 and 1 are two apart
            return between * sum(float(values(each).abs().mean()) for each in tensor.scale)
        case Masked():
            return step_of(tensor.rest)
        case Mixed():
            found = [step_of(each) for each in tensor.parts if each.shape[1]]
            known = [each for each in found if each is not None]
            return sum(known) / len(known) if known else None
        case Reordered() | Rotated():
            return step_of(tensor.inner)
        case Plain():
            return float(tensor.weight.float().std())
    return None


def _others(mine: Weights, other: Weights, packed: set[str]) -> list[Apart]:
    """Compare the tensors that belong to no quantized module."""
    names = sorted({*mine.info, *other.info} - packed)
    both = [name for name in names if name in mine.info and name in other.info]
    lost = [Apart(name=name, codes=0, codes_apart=None) for name in names if name not in both]
    return lost + [_plain(mine, other, name) for name in both if not mine.equals(name, other, name)]


def _plain(mine: Weights, other: Weights, name: str) -> Apart:
    """Compare two tensors of floats."""
    ours, theirs = mine.read(name), other.read(name)
    codes = theirs.numel()
    if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
        return Apart(name=name, codes=codes, codes_apart=None)
    mean, largest = _distance(ours.float(), theirs.float())
    return Apart(
        name=name,
        codes=codes,
        codes_apart=_count(ours, theirs),
        mean=mean,
        largest=largest,
        step=_finite(float(theirs.float().std())) if codes > 1 else None,
    )


def _distance(ours: Tensor, theirs: Tensor) -> tuple[float | None, float | None]:
    """Return mean and largest difference of two tensors in float32; None: they don't compare."""
    if ours.shape != theirs.shape or not ours.numel():
        return None, None
    difference = (ours - theirs).abs_()
    return _finite(float(difference.mean(dtype=torch.float64))), _finite(float(difference.max()))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _farthest_first(apart: list[Apart]) -> tuple[Apart, ...]:
    """Order what is apart by its mean distance in steps; what doesn't compare comes first."""

    def distance(each: Apart) -> float:
        if each.mean is None:
            return math.inf
        return each.mean / each.step if each.step else each.mean

    return tuple(sorted(apart, key=lambda each: (-distance(each), each.name)))
