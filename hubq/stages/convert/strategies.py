"""How a tensor goes into a format that it was not made for: as it is, said otherwise, or changed.

A zero may be left out or written out where it is the middle of the range: the numbers stay. All
else changes what the model computes, and is done only where the user allows it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from hubq.formats import AffineFormat, Format, refusal_of
from hubq.formats.dense import Dense, lacks_data, plain
from hubq.machine.device import dtype_name
from hubq.tensors import PER_CHANNEL, Affine, Floating, Grid, QuantizedTensor, Reordered

EMBEDDINGS = ("embed_tokens", "lm_head")
FINE_BITS = 8  # of weights that are rounded anew: they shall lose little more
GROUP_SIZES = (128, 64, 32)


@dataclass(frozen=True)
class Strategy:
    """What is done to a tensor before a format packs it."""

    zeros: Literal["as read", "left out", "written out"] = "as read"
    leaves_inputs: bool = False  # inputs that were rounded as they arrived are so no more
    scales: torch.dtype | None = None  # rounds the scales
    grid: Grid | None = None  # rounds the weights anew
    dense: torch.dtype | None = None  # writes the weights out in 16 bits

    @property
    def keeps_integers(self) -> bool:
        """Whether codes, scales and zeros are those that were read."""
        return self.scales is None and self.grid is None and self.dense is None

    def __str__(self) -> str:
        if self.dense is not None:
            return f"written out in {dtype_name(self.dense)}"
        if self.grid is not None:
            return f"rounded anew to {self.grid.bits} bits"
        return (
            "kept" if self.scales is None else f"kept but for scales in {dtype_name(self.scales)}"
        )

    def apply(self, tensor: QuantizedTensor) -> QuantizedTensor:
        """Return the tensor that the format packs; one without data stays so."""
        if self.dense is not None:
            return plain(tensor, self.dense)
        if self.grid is not None:
            return _rounded(tensor, self.grid)
        if not isinstance(tensor, Affine):
            return tensor
        if self.zeros == "left out":
            tensor = replace(tensor, zero=None)
        if self.zeros == "written out" and tensor.zero is None:
            middle = torch.full(tensor.scales.shape, tensor.middle, dtype=torch.uint8)
            tensor = replace(tensor, zero=middle.to(tensor.scales.device))
        if self.scales is not None:
            tensor = replace(tensor, scale=tensor.scales.to(self.scales))
        return replace(tensor, activation_bits=None) if self.leaves_inputs else tensor


def exact_strategies(tensor: QuantizedTensor) -> Iterator[Strategy]:
    """Yield the ways that change no number."""
    yield Strategy()
    if isinstance(tensor, Affine) and isinstance(tensor.scale, Tensor):
        if tensor.zero is not None and bool((tensor.zero == tensor.middle).all()):
            yield Strategy("left out")
        if tensor.zero is None:
            yield Strategy("written out")


def lossy_strategies(
    tensor: QuantizedTensor, form: Format, dtype: torch.dtype
) -> Iterator[Strategy]:
    """Yield the ways that change numbers, those that change the least first."""
    if isinstance(tensor, Affine) and isinstance(tensor.scale, Tensor):
        for strategy in exact_strategies(tensor):
            yield replace(strategy, leaves_inputs=True)
            yield replace(strategy, leaves_inputs=True, scales=torch.float16)
    for bits, symmetric in ((FINE_BITS, True), (4, False)):
        for size in _group_sizes(tensor):
            yield Strategy(grid=Grid(bits, size, symmetric, form.scale_dtype(dtype)))
    yield Strategy(dense=sixteen_bits(dtype))


def dense_strategies(dtype: torch.dtype, *, lossy: bool) -> Iterator[Strategy]:
    """Yield the ways to a dense copy of a model: rounding to 16 bits is what that means."""
    yield Strategy(dense=sixteen_bits(dtype))
    if lossy:
        yield Strategy(dense=sixteen_bits(dtype), leaves_inputs=True)


def refusal(
    module: str, tensor: QuantizedTensor, strategy: Strategy, form: Format, *, tied: bool
) -> str | None:
    """Say why a format can't hold a module's tensor in a way, or None."""
    name = module.rpartition(".")[2]
    if strategy.dense is not None:
        return _dense_refusal(name, tensor, strategy, form)
    if name in EMBEDDINGS and name not in form.embeddings(tied):
        return f"{form.name} keeps {name} in 16 bits"
    held = strategy.apply(tensor)
    if isinstance(held, Floating):
        return (
            f"{form.name} takes over no weights in {held.bits}-bit floats; dense holds their values"
        )
    if isinstance(held, Reordered) and isinstance(form, AffineFormat):
        return (
            f"no reader of {form.name} supports activation order (desc_act, actorder: group) any "
            "more, which left columns out of their groups' order; hubq and dense hold them"
        )
    if strategy.scales is not None and isinstance(held, Affine):
        largest = torch.finfo(strategy.scales).max
        if bool((held.scales.float().abs() > largest).any()):
            return f"some scales are too large for {dtype_name(strategy.scales)}"
    return refusal_of(form, held)


def _dense_refusal(
    name: str, tensor: QuantizedTensor, strategy: Strategy, form: Format
) -> str | None:
    """Say why a weight can't be written out in 16 bits: only embeddings can, but in dense files."""
    if not isinstance(form, Dense):
        return None if name in EMBEDDINGS else f"{form.name} files hold quantized linears"
    # Of floats the copy's card says that inputs are rounded no more.
    rounded = not (strategy.leaves_inputs or isinstance(tensor, Floating))
    return form.why_unsupported(tensor) if rounded else None


def without_data(value: Any) -> Any:  # noqa: ANN401 - a representation, or what one consists of
    """Move a representation to the meta device, however deep."""
    if isinstance(value, Tensor):
        return value.to("meta")
    if isinstance(value, QuantizedTensor):
        inner = {each.name: getattr(value, each.name) for each in fields(value)}  # type: ignore[arg-type]
        return replace(value, **{name: without_data(each) for name, each in inner.items()})  # type: ignore[type-var]
    return tuple(map(without_data, value)) if isinstance(value, tuple) else value


def _rounded(tensor: QuantizedTensor, grid: Grid) -> Affine:
    if lacks_data(tensor):
        return Affine.sketch(tensor.shape, grid)
    return Affine.fit(tensor.dequantize(), grid)


def _group_sizes(tensor: QuantizedTensor) -> Iterator[int]:
    """Yield sizes that leave no ragged group, the tensor's own first."""
    inner = tensor.inner if isinstance(tensor, Reordered) else tensor
    columns = tensor.shape[1]
    own = (inner.group_size,) if isinstance(inner, Affine) else ()
    for size in (*own, *GROUP_SIZES):
        if size < columns and columns % size == 0:
            yield size
    yield PER_CHANNEL


def sixteen_bits(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of a dense copy of a model that runs in another dtype, maybe float32."""
    return torch.float16 if dtype == torch.float16 else torch.bfloat16
