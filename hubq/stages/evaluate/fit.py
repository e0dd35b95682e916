"""Whether a model is evaluated whole in memory or, where it doesn't fit, block by block.

Block by block the numbers are the same. Only what writes texts can't be measured so: it would read
all of the weights for each token.
"""

import os
from collections.abc import Iterable, Mapping
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

from hubq.errors import UserError
from hubq.machine.device import DTYPES
from hubq.machine.engines import missing_packages
from hubq.machine.files import gigabytes, read_object
from hubq.machine.memory import SPARE
from hubq.machine.meters import available
from hubq.records.recipe_evaluate import EvaluateSection
from hubq.stages.evaluate.task import Task

VARIABLE = "HUBQ_EVALUATE"
WAYS = ("whole", "blocks")
# What runs packed, by kernels of its own that no dense weights compute the same as.
RUNS_PACKED = frozenset({"bitsandbytes", "fp8"})
# What other packages run by kernels of their own, where they are installed.
BY_KERNELS = frozenset({"gptq", "awq"})


def why_by_blocks(folder: Path, device: str, dtype: str) -> str | None:
    """Say why a folder is evaluated block by block; None where it is whole.

    Once said, it holds for this process, however much memory there is later. Raises UserError where
    HUBQ_EVALUATE names no way.
    """
    return _why_by_blocks(folder.resolve(), device, dtype, _asked())


@cache
def _why_by_blocks(folder: Path, device: str, dtype: str, asked: str) -> str | None:
    from hubq.sources.architecture import FAMILIES
    from hubq.sources.shards import adapter_bytes, index

    config = read_object(folder / "config.json")
    names, method = config.get("architectures") or [""], _method(config)
    if names[0] not in FAMILIES or method in RUNS_PACKED:
        return None
    tensors, width = index(folder), DTYPES[dtype].width
    more = adapter_bytes(folder)
    if not method:
        count = sum(prod(each.shape) for each in tensors.values())
        return why_not_whole(width * count + more, device)
    # No weight takes less than a bit; to count them, transformers has to be imported.
    most = 8 * width * sum(each.end - each.begin for each in tensors.values()) + more
    if why_not_whole(most, device) is None:
        return None
    from hubq.formats.foreign.folder import HEAD, shapes_of

    shapes = dict(shapes_of(folder, config, len(tensors)) or {})
    if config.get("tie_word_embeddings"):
        shapes.pop(f"{HEAD}.weight", None)
    return why_not_whole(width * sum(map(prod, shapes.values())) + more, device)


def why_not_whole(size: int, device: str) -> str | None:
    """Say why a model whose weights take so many bytes isn't loaded whole; None: it is."""
    if asked := _asked():
        return f"{VARIABLE} asks for it" if asked == "blocks" else None
    # What goes to a GPU is in the host's memory before.
    needed, free = int(SPARE * size), min(available(device), available("cpu"))
    if needed <= free:
        return None
    return f"it needs {gigabytes(needed)} and {gigabytes(free)} are free"


def _asked() -> str:
    """Return what HUBQ_EVALUATE asks for; empty where it isn't set."""
    asked = os.environ.get(VARIABLE, "").strip()
    if asked and asked not in WAYS:
        raise UserError(
            f"{VARIABLE} is {asked!r}: set it to {' or '.join(WAYS)}, or leave it unset to load "
            "whole what fits into memory"
        )
    return asked


def computes_alike(folder: Path) -> bool:
    """Tell whether a folder gives the same numbers both ways, bit for bit.

    Where a package runs packed weights by kernels of its own, dense ones differ by rounding.
    """
    kernels = [method for method in BY_KERNELS if not missing_packages(method)]
    return not kernels or _method(read_object(folder / "config.json")) not in kernels


def refuse_writing(tasks: Iterable[Task], section: EvaluateSection, reason: str) -> None:
    """Raise UserError for what lets a model write that is evaluated block by block."""
    names = [f"tasks: {task.title}" for task in tasks if task.writes]
    if section.efficiency is not None:
        names.insert(0, "efficiency")
    if names:
        raise UserError(
            f"the model is evaluated block by block ({reason}), and evaluate has "
            f"{' and '.join(names)}, which would read all of its weights for each token that it "
            "writes.\nSet efficiency: null and leave out tasks that write texts, or use a machine "
            f"with memory for the whole model; {VARIABLE}=whole loads it whole all the same"
        )


def _method(config: Mapping[str, Any]) -> str:
    """Return how a folder is quantized, as its config.json says; empty where that says nothing."""
    said = config.get("quantization_config")
    return str(said.get("quant_method", "")) if isinstance(said, dict) else ""
