"""Every method and format on a GPU beside the CPU, given the same weights and the same inputs.

The codes of two devices differ where a weight lies almost half-way between two levels, and in the
rest of such a row where errors are carried on; what the layer then loses is the same.
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from gpu.findings import Finding, in_turn, not_run
from gpu.models import NOWHERE, Setting, Subject, runnable
from hubq.formats import format_named, formats
from hubq.machine.progress import Clock
from hubq.methods import Group, Method, Need, method_class
from hubq.methods.rtn import RTN
from hubq.sources.architecture import family_of
from hubq.sources.calibration_tokens import tokens
from hubq.sources.shards import Weights
from hubq.sources.skeleton import Skeleton
from hubq.stages.quantize.block import Block
from hubq.stages.quantize.walk import Walk
from hubq.tensors import QuantizedTensor

LOSS = 0.01  # how far the output errors may lie apart
ALIKE = 0.9  # of the codes
CPU = torch.device("cpu")


class Recorded(RTN):
    """Rounds to nearest, and keeps what it was given."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gram", "magnitude", "sample"})
    takes_stored: ClassVar[bool] = False
    seen: ClassVar[list[Group]] = []

    def quantize_group(self, group: Group) -> tuple[QuantizedTensor, ...]:
        """Keep the group and round it."""
        self.seen.append(group)
        return super().quantize_group(group)


def methods(setting: Setting) -> Iterator[Finding]:
    """Yield for each method how far its results of two devices are apart."""
    subject = setting.real()
    given = groups(subject)
    names, lacking = runnable()

    def one(name: str) -> Iterator[Finding]:
        method = method_class(name).model_validate(subject.options(name))
        yield compared(name, method, given, setting.device)

    yield from in_turn(names, one)
    yield from (not_run(name, "its library is not installed") for name in lacking)


def groups(subject: Subject) -> list[Group]:
    """Return the groups of the first block with all that calibration shows of their inputs."""
    weights, family = Weights(subject.folder), family_of(subject.config)
    section = subject.recipe("gptq").calibration
    assert section is not None
    ids = tokens(section, subject.folder, NOWHERE).ids
    hidden = weights.rows(f"{family.embeddings}.weight", ids.flatten()).view(*ids.shape, -1)
    block = Block(Skeleton(subject.config, family, CPU, hidden.dtype), 0, weights)
    Recorded.seen.clear()
    Walk(block, Recorded(bits=4, group_size=subject.group_size), hidden.dtype, Clock()).run(
        hidden, lambda: None
    )
    return [Group(each.layers) for each in Recorded.seen]


def compared(name: str, method: Method, given: list[Group], device: torch.device) -> Finding:
    """Quantize all groups on both devices, and pack the CPU's results on both."""
    losses, alike, total, packed = [0.0, 0.0], 0, 0, True
    for group in given:
        here = scaled(method, group)
        results = method.quantize_group(here)
        moved = on(device, group)
        there = method.quantize_group(scaled(method, moved))
        for layer, first, second in zip(here.layers, results, on(CPU, there), strict=True):
            losses[0] += loss(layer.weight, layer.inputs.gram, first)
            losses[1] += loss(layer.weight, layer.inputs.gram, second)
            for one, other in zip(codes(first), codes(second), strict=True):
                alike += int((one == other).sum())
                total += one.numel()
            packed = packed and packs_alike(first, device)
    apart = abs(losses[1] / losses[0] - 1)
    return Finding(
        name,
        f"error within {LOSS:.0%}, {ALIKE:.0%} of codes, packed bytes equal",
        f"{apart:.3%}, {alike / total:.3%}, {'equal' if packed else 'NOT equal'}",
        ok=apart <= LOSS and alike / total >= ALIKE and packed,
    )


def scaled(method: Method, group: Group) -> Group:
    """Return the group as a method that folds scales gets it."""
    return group.scaled(method.scale(group)) if method.folds else group


def loss(weight: Tensor, gram: Tensor | None, result: QuantizedTensor) -> float:
    """Return ||(W - Q) X||² / ||W X||²."""
    assert gram is not None
    inputs, error = gram.double(), (weight.float() - result.dequantize().float()).double()
    dense = weight.double()
    return float(((error @ inputs) * error).sum() / ((dense @ inputs) * dense).sum())


def codes(value: object) -> Iterator[Tensor]:
    """Yield all tensors of whole numbers and flags in a result."""
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from codes(each)
    elif is_dataclass(value):
        for field in fields(value):
            yield from codes(getattr(value, field.name))


def packs_alike(result: QuantizedTensor, device: torch.device) -> bool:
    """Tell whether each format that holds a result packs it there into the CPU's bytes."""
    forms = [form for form in map(format_named, formats()) if form.why_unsupported(result) is None]
    moved = on(device, result)
    for form in forms:
        expected, found = form.pack("module", result), form.pack("module", moved)
        if not all(torch.equal(as_bytes(found[key].cpu()), as_bytes(expected[key]))
                   for key in expected):  # fmt: skip
            return False
    return bool(forms)


def as_bytes(tensor: Tensor) -> Tensor:
    """Return a tensor's bytes: not all dtypes can be compared."""
    return tensor.flatten().view(torch.uint8)


def on(device: torch.device, value: Any) -> Any:  # noqa: ANN401 - whatever holds tensors
    """Move all tensors in a value to a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(on(device, each) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        moved = {each.name: on(device, getattr(value, each.name)) for each in fields(value)}
        return replace(value, **moved)
    return value
