"""What a quantization will cost in time: arithmetic, no measurement."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hubq.sources.source import Source
    from hubq.stages.recipe.recipe import Recipe

# Products a second that the walk reaches on a core, by the dtype of the forward pass: where that is
# bfloat16 there is some float32 in between; where it isn't, the CPU is of the slower kind.
CPU_RATES = {"bfloat16": 200e9, "float32": 50e9, "float16": 2e9}
GPU_RATE = 50e12
DISK_RATE = 500e6  # bytes a second, read, packed and written


def seconds(recipe: "Recipe", source: "Source", dtype: str | None) -> float:
    """Return a rough time: reading, writing, a forward pass, XᵀX, and half of that for solving.

    `dtype` is what the text runs through the model in; None where there is no text.
    """
    size = sum(info.end - info.begin for info in source.tensors.values())
    time = size / DISK_RATE
    if dtype is not None and recipe.calibration is not None:
        tokens = recipe.calibration.tokens
        blocks = source.config["num_hidden_layers"]
        forward = sum(2 * tokens * out * columns for out, columns in _linears(source))
        gram = sum(2 * tokens * columns**2 for columns in _inputs(source))
        time += 1.5 * blocks * (forward + gram) / rate(dtype)
        if recipe.method.tunes:  # twice more forward, and each epoch back too, at half the rate
            time += blocks * forward * (2 + 6 * recipe.method.tuning_epochs) / rate(dtype)
    return round(time, 1)


def rate(dtype: str) -> float:
    """Return the products a second of this machine's device, roughly."""
    import torch

    if torch.cuda.is_available():
        return GPU_RATE
    return CPU_RATES[dtype] * max(1, (os.cpu_count() or 1) // 2)


def _inputs(source: "Source") -> Iterator[int]:
    """Yield the widths of the first block's inputs; linears that share one count once."""
    from hubq.sources.architecture import family_of

    family = family_of(source.config)
    for group in family.groups:
        yield source.tensors[f"{family.blocks}.0.{group.linears[0]}.weight"].shape[1]


def _linears(source: "Source") -> Iterator[tuple[int, int]]:
    """Yield the shapes of the first block's linears."""
    from hubq.sources.architecture import family_of

    family = family_of(source.config)
    for group in family.groups:
        for linear in group.linears:
            out, columns = source.tensors[f"{family.blocks}.0.{linear}.weight"].shape
            yield out, columns
