"""Which implementation of a loop runs: by the device of its tensors."""

from importlib.util import find_spec
from typing import Literal

import torch

Tool = Literal["numba", "triton", "torch"]


def tool_for(device: torch.device) -> Tool:
    """Return what runs the loops over tensors there; torch calls ROCm's devices cuda, too."""
    if device.type == "cpu":
        return "numba"
    return "triton" if device.type == "cuda" and has_triton() else "torch"


def has_triton() -> bool:
    """Tell whether Triton is installed: it has wheels for Linux alone."""
    return find_spec("triton") is not None
