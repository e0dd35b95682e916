"""Read a pickled file of weights without running its code, in a process that does nothing else.

Torch's `weights_only` reader builds tensors and containers and refuses all other names. It runs
apart from hubq all the same: with bounded memory, without the user's environment, and what comes
out are numbers in a safetensors file, read back by the safetensors library and compared.
"""

import pickle
import re
import resource
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOM = 32 << 30  # bytes of addresses that torch and its libraries take by themselves
SLACK = 1 << 20


def main(source: Path, target: Path) -> None:
    """Turn one pickled file into one safetensors file; raise ValueError for what is no weights."""
    _bound_memory(ROOM + 4 * source.stat().st_size)
    from hubq.sources.shards import write

    tensors = _tensors(_loaded(source))
    # A tied pair lies in the file once and is written twice; more than that is made up.
    if sum(each.nbytes for each in tensors.values()) > 2 * source.stat().st_size + SLACK:
        raise ValueError("it claims to hold more numbers than its bytes can")
    write(target, tensors)
    _require_same(tensors, target)


def _bound_memory(size: int) -> None:
    if sys.platform == "linux":  # elsewhere a limit of addresses isn't kept
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _loaded(source: Path) -> Any:  # noqa: ANN401 - whatever is in the file
    import torch

    try:
        return torch.load(
            source, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(source)
        )
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]{1,200})", str(error))
        said = f"it asks for {named[1]}" if named else "it is damaged or not a pickle of tensors"
        raise ValueError(said) from error


def _tensors(state: object) -> dict[str, Any]:
    """Return the tensors by name; raise ValueError for anything else in the file."""
    import torch

    from hubq.sources.tensor_headers import DTYPES

    if not isinstance(state, Mapping) or not state:
        raise ValueError("it holds no tensors by name")
    for name, each in state.items():
        if not isinstance(name, str) or not isinstance(each, torch.Tensor):
            raise ValueError(
                f"its {str(name)[:80]!r} is not a tensor: it holds more than a model's weights"
            )
        if each.layout != torch.strided or each.dtype not in DTYPES.values():
            raise ValueError(f"its {name[:80]!r} is of a kind that safetensors can't store")
    return {name: each.detach() for name, each in state.items()}


def _require_same(tensors: Mapping[str, Any], target: Path) -> None:
    """Compare the file, as the safetensors library reads it, with what was unpickled."""
    import torch
    from safetensors import safe_open

    with safe_open(target, framework="pt") as written:
        if set(written.keys()) != set(tensors):
            raise ValueError("its tensors are missing from the new file")
        for name, tensor in tensors.items():
            there = written.get_tensor(name)
            same = there.shape == tensor.shape and there.dtype == tensor.dtype
            if not same or not torch.equal(_bytes(there), _bytes(tensor)):
                raise ValueError(f"{name} changed on its way into the new file")


def _bytes(tensor: Any) -> Any:  # noqa: ANN401 - tensors
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8)
