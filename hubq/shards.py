"""Safetensors folders, read tensor by tensor and written as a stream."""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor


class TensorInfo(NamedTuple):
    """Where a tensor lies, known from its file's header alone."""

    file: str
    dtype: str  # as safetensors spells it: BF16, F16, F32, I32, ...
    shape: tuple[int, ...]
    begin: int  # byte offsets in the file
    end: int


class Weights:
    """The tensors of a folder, read one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info: dict[str, TensorInfo] = index(folder)

    def read(self, name: str) -> Tensor:
        """Read one tensor; raise UserError where it is missing or its file truncated."""
        raise NotImplementedError


def index(folder: Path) -> dict[str, TensorInfo]:
    """Read all headers of a folder; raise UserError for missing or truncated files."""
    raise NotImplementedError
