"""What a method takes to solve the linears of a block: known by letting it solve some rows.

Rows cost the same each, and what a group does once for all of them, a factorization mostly, grows
with the cube of its width. So two small layers of random numbers show both; the wider ones follow.
On a machine that is elsewhere all is reckoned from the operations.
"""

from collections.abc import Iterator, Sequence

import torch

from hubq.machine.device import device_title, synchronize
from hubq.machine.rates import Rates, clock_of, kept
from hubq.methods import Group, Inputs, Layer, Method

Shapes = Sequence[tuple[int, int]]  # (out, in) of linears that share an input

ROWS = (32, 160)  # of the two layers
WIDEST = 2048  # columns; wider ones are reckoned
SAMPLE = 2048  # tokens, as the walk takes them
TURNS = 2  # of which the faster counts
# Reckoned, roughly: seconds of a column's step where all rows are rounded at once; bytes a weight
# that fitting, rounding and packing read and write; operations of a factorization, over in³.
STEP, PASSED, FACTORIZING = 2e-6, 160, 2


def seconds_a_block(
    method: Method, groups: Sequence[Shapes], scale_dtype: torch.dtype, device: torch.device
) -> float:
    """Return about how long a method takes for one block on a device of this machine."""
    widths = {min(shapes[0][1], WIDEST) for shapes in groups}
    found = {width: _kept(method, width, scale_dtype, device) for width in widths}
    return sum(_of_group(shapes, *found[min(shapes[0][1], WIDEST)]) for shapes in groups)


def _kept(
    method: Method, width: int, scale_dtype: torch.dtype, device: torch.device
) -> tuple[float, float]:
    """Return what was measured before of a method's options, or measure it."""
    name, options = type(method).__qualname__, method.model_dump(mode="json")
    asked = [device_title(device), torch.__version__, name, options, width, str(scale_dtype)]
    once, a_row = kept(asked, lambda: _measured(method, width, scale_dtype, device))
    return once, a_row


def reckoned_seconds_a_block(method: Method, groups: Sequence[Shapes], rates: Rates) -> float:
    """Return roughly how long a method takes for one block on a GPU that is elsewhere."""
    weights = sum(out * columns for shapes in groups for out, columns in shapes)
    seconds = weights * PASSED / rates.passed
    if "gram" not in method.needed:
        return seconds
    for shapes in groups:
        columns, rows = shapes[0][1], sum(out for out, _ in shapes)
        products = FACTORIZING * columns**3 + rows * columns**2
        seconds += products / rates.products["float32"] + STEP * columns * len(shapes)
    return seconds


def _of_group(shapes: Shapes, once: float, a_row: float) -> float:
    """Return the seconds of a group, given those of a layer at most WIDEST wide."""
    columns = shapes[0][1]
    growth = columns / min(columns, WIDEST)
    return once * growth**3 + a_row * growth * sum(out for out, _ in shapes)


def _measured(
    method: Method, width: int, scale_dtype: torch.dtype, device: torch.device
) -> tuple[float, float]:
    """Return the seconds that a group takes once, and those that each row takes."""
    few, many = (_seconds(method, (rows, width), scale_dtype, device) for rows in ROWS)
    a_row = max(0.0, many - few) / (ROWS[1] - ROWS[0])
    return max(0.0, few - a_row * ROWS[0]), a_row


def _seconds(
    method: Method, shape: tuple[int, int], scale_dtype: torch.dtype, device: torch.device
) -> float:
    """Return the seconds in which a method scales and quantizes one random layer."""
    clock, threads = clock_of(device)
    least = float("inf")
    for turn, group in enumerate(_groups(method, shape, scale_dtype, device)):
        synchronize(device.type)
        began = clock()
        if method.folds:
            group = group.scaled(method.scale(group))
        for result in method.quantize_group(group):
            result.dequantize()
        synchronize(device.type)
        if turn:  # the first compiles
            least = min(least, (clock() - began) / threads)
    return least


def _groups(
    method: Method, shape: tuple[int, int], scale_dtype: torch.dtype, device: torch.device
) -> Iterator[Group]:
    """Yield the same random layer again and again: solving uses its statistics up."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator)
    tokens = torch.randn(max(SAMPLE, 2 * shape[1]), shape[1], generator=generator)
    for _ in range(1 + TURNS):
        inputs = _inputs(method, tokens.to(device)) if method.needed else Inputs(tokens=0)
        yield Group((Layer("a layer", weight.to(device), inputs, scale_dtype),))


def _inputs(method: Method, tokens: torch.Tensor) -> Inputs:
    """Return what the walk would have gathered of these tokens."""
    magnitude = tokens.abs() if "magnitude" in method.needed else None
    return Inputs(
        tokens=len(tokens),
        gram=tokens.T @ tokens if "gram" in method.needed else None,
        mean_magnitude=None if magnitude is None else magnitude.mean(0),
        max_magnitude=None if magnitude is None else magnitude.amax(0),
        sample=tokens[:SAMPLE].clone() if "sample" in method.needed else None,
        dtype=torch.bfloat16,
    )
