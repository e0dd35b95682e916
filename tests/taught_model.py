"""Tiny quantized models of every format, and pairs for them to learn."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hubq_folder
import torch
from quantized_folder import Choice, write
from torch import Tensor

from hubq.formats import format_named
from hubq.methods.adapters.qlora import QLoRA
from hubq.records.adaptation import Taught
from hubq.sources.instructions.tokens import Example, Examples
from hubq.stages.adapt.frozen_model import Beside, FrozenLinear, frozen_model
from hubq.tensors import Codebook, Grid
from hubq.tensors.codebook import levels

CPU = torch.device("cpu")
IDS = torch.arange(40).view(2, 20)
AFFINE = ("compressed-tensors", "gptq", "awq")
FORMATS = (*AFFINE, "hubq", "bitsandbytes", "dense")
DATASET = {"file": "/pairs.jsonl"}


def nf4(module: str, weight: Tensor) -> Codebook | None:
    """Round the linears of blocks to NF4, in blocks of 64."""
    if not module.endswith("_proj"):
        return None
    grouped = weight.view(len(weight), -1, 64)
    scale = grouped.abs().amax(2)
    shares = grouped / scale[..., None]
    codes = (shares[..., None] - levels("nf4")).abs().argmin(-1).to(torch.uint8)
    return Codebook(codes.flatten(1), levels("nf4"), scale, 4, 64, dtype=torch.bfloat16)


def quantized(base: Path, folder: Path, format_name: str) -> Path:
    """Write a base quantized in a format; return that folder."""
    if format_name == "hubq":
        hubq_folder.write(base, folder, hubq_folder.round_all)
    elif format_name == "bitsandbytes":
        hubq_folder.write(base, folder, nf4, format_name)
    else:
        grid = Grid(bits=4, group_size=32, symmetric=format_name == "gptq")
        write(base, folder, Choice(format_named(format_name), grid))
    return folder


def adapter(kind: type[QLoRA] = QLoRA, **options: Any) -> QLoRA:
    """Return an adapter's options, small ones."""
    small = {"dataset": DATASET, "rank": 4, "steps": 6, "batch_size": 4, "learning_rate": 1e-2}
    return kind.model_validate({**small, **options})


def beside(
    folder: Path, chosen: QLoRA, device: torch.device = CPU, dtype: torch.dtype = torch.float32
) -> Any:
    """Load a folder with a branch beside each linear."""
    return frozen_model(
        folder,
        device,
        dtype,
        lambda name, weight, linear: Beside(
            FrozenLinear(weight, linear), chosen.branch(name, weight.shape).to(device)
        ),
    )


def trainable(model: Any) -> dict[str, torch.nn.Parameter]:
    """Return what of a model isn't frozen."""
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


def examples_of(train: Sequence[Example], held_out: Sequence[Example] = ()) -> Examples:
    """Return pairs as they are read, of data that nobody asks about."""
    taught = Taught(
        title="letters",
        version="sha256:0",
        repo=None,
        license=None,
        template="alpaca",
        pairs=len(train),
        held_out=len(held_out),
        left_out={},
        cut=0,
        tokens=1,
        answer_tokens=1,
    )
    return Examples(tuple(train), tuple(held_out), taught, 0)


def pairs(count: int = 10, held_out: int = 4, seed: int = 0) -> Examples:
    """Return pairs of random lengths, whose answers follow from their prompts."""
    drawn = random.Random(seed)

    def example() -> Example:
        prompt = drawn.choices(range(97, 123), k=drawn.randint(3, 20))
        answer = [*prompt[: drawn.randint(2, 9)], 257]
        return Example(tuple(prompt + answer), tuple([-100] * len(prompt) + answer))

    return examples_of(*([example() for _ in range(number)] for number in (count, held_out)))


TinyModel = Callable[[str], Path]
