"""What a quantization will cost in memory and time: arithmetic, no measurement."""

import os
from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

from hubq.machine.device import DTYPES

if TYPE_CHECKING:
    from hubq.sources.shards import TensorInfo
    from hubq.sources.source import Source
    from hubq.stages.recipe.recipe import Recipe

# Bytes: torch, transformers and numba take 0.5 GB, tokenizing a text of 10 MB as much again.
OVERHEAD = 1_000_000_000
TRAINED = 24  # bytes a weight in training
BATCH = 8192  # tokens a step of training, at most four of a recipe's windows
# Products a second that the walk reaches on a core, by the dtype of the forward pass: where that is
# bfloat16 there is some float32 in between; where it isn't, the CPU is of the slower kind.
CPU_RATES = {"bfloat16": 200e9, "float32": 50e9, "float16": 2e9}
GPU_RATE = 50e12
DISK_RATE = 500e6  # bytes a second, read, packed and written


def peak_memory(recipe: "Recipe", source: "Source", dtype: str | None) -> int:
    """Return the bytes that quantizing holds at most, beside which the model's size is nothing.

    Without calibration: a block and, of its widest linear, two float32 copies. With it, in the
    dtype in which the text runs through the model, further
    - the block once more, unless the file has it in that dtype;
    - the hidden states of all calibration tokens, and the same normed: samples * length *
      hidden_size numbers each;
    - the inputs of the widest group: samples * length * widest input numbers;
    - its Gram matrix in float32 with the solver's three copies: 16 * widest input ** 2.
    A method that tunes keeps two more sets of hidden states, of the unquantized model and of what
    enters the block; and where training takes more than the solving before, that counts.
    Embeddings and head are looked up and copied piece by piece; only a head that is rounded is
    whole in memory, after the last block, with its float32 copies.
    """
    block = _block_bytes(source)
    widest = 2 * 4 * max(out * columns for out, columns in _linears(source))
    resident = block + widest
    if dtype is not None and recipe.calibration is not None:
        tokens = recipe.calibration.samples * recipe.calibration.length
        hidden = next(_inputs(source))
        widest_input = max(columns for _, columns in _linears(source))
        size = DTYPES[dtype].width
        solving = tokens * (2 * hidden + widest_input) * size + 16 * widest_input**2
        if recipe.method.tunes:
            training = _training_bytes(source, tokens, size)
            solving = 2 * tokens * hidden * size + max(solving, training)
        resident += solving + _block_copy(source, dtype)
    head = _embedding_bytes(source) * 5 if recipe.embeddings != 16 else 0
    return OVERHEAD + max(resident, head)


def _training_bytes(source: "Source", tokens: int, size: int) -> int:
    """Return what training a block holds beside the hidden states that wait to enter it.

    TRAINED bytes a weight: itself, its gradient, Adam's two averages in float32, and its planes
    and values as the block runs; of a batch, what the way back needs of the way forward.
    """
    weights = sum(out * columns for out, columns in _linears(source))
    outputs = sum(out + columns for out, columns in _linears(source))
    return TRAINED * weights + min(tokens, BATCH) * 2 * size * outputs


def seconds(recipe: "Recipe", source: "Source", dtype: str | None) -> float:
    """Return a rough time: reading, writing, a forward pass, XᵀX, and half of that for solving.

    `dtype` is what the text runs through the model in; None where there is no text.
    """
    size = sum(info.end - info.begin for info in source.tensors.values())
    time = size / DISK_RATE
    if dtype is not None and recipe.calibration is not None:
        tokens = recipe.calibration.samples * recipe.calibration.length
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


def _block_bytes(source: "Source") -> int:
    """Return the bytes of the first block."""
    return sum(info.end - info.begin for info in _block(source))


def _block_copy(source: "Source", dtype: str) -> int:
    """Return the bytes of the first block as it runs; none where that is as the file has it."""
    others = (info for info in _block(source) if info.dtype != DTYPES[dtype].header)
    return sum(DTYPES[dtype].width * prod(info.shape) for info in others)


def _block(source: "Source") -> "Iterator[TensorInfo]":
    """Yield the tensors of the first block."""
    from hubq.sources.architecture import family_of

    start = f"{family_of(source.config).blocks}.0."
    return (info for name, info in source.tensors.items() if name.startswith(start))


def _embedding_bytes(source: "Source") -> int:
    from hubq.sources.architecture import family_of

    info = source.tensors[f"{family_of(source.config).embeddings}.weight"]
    return info.end - info.begin
