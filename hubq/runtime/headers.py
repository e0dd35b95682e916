"""What safetensors files say they hold, compared with what a model needs, before all is read."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

DTYPES = {
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
}
NAMED = 3  # so many tensors are named in an error
LEGACY = "rotary_emb.inv_freq"  # a tensor of old files that transformers computes itself


class Stored(NamedTuple):
    """One tensor as its file's header describes it."""

    file: str
    dtype: str
    shape: tuple[int, ...]

    def empty(self, name: str) -> Tensor:
        """Return a tensor without data; raise ValueError for a dtype that no component has."""
        if self.dtype not in DTYPES:
            raise ValueError(f"{name} in {self.file} is {self.dtype}, which no packed tensor is")
        return torch.empty(self.shape, dtype=DTYPES[self.dtype], device="meta")


def headers(files: Sequence[str] | None) -> dict[str, Stored]:
    """Read the headers of all files; raise ValueError for one that is no whole safetensors file."""
    if not files:
        raise ValueError("a hubq model is loaded from its safetensors files, not a state_dict")
    found: dict[str, Stored] = {}
    for file in map(str, files):
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - no dict
                    if name in found:
                        raise ValueError(f"{found[name].file} and {file} both hold {name}")
                    entry = opened.get_slice(name)
                    found[name] = Stored(file, entry.get_dtype(), tuple(entry.get_shape()))
        except SafetensorError as error:
            raise ValueError(
                f"{file} is damaged or cut short ({error}): download it again"
            ) from error
    return found


def as_in_memory(stored: Mapping[str, Stored], names: Iterable[str]) -> dict[str, Stored]:
    """Give the tensors of files that see the names that a model has for them.

    Files have names of before: a level more, or the parts in another order. transformers renames
    them as it reads them.
    """
    known = {bare(name): name for name in names}
    return {known.get(bare(name), name): each for name, each in stored.items()}


def bare(name: str) -> str:
    """Leave out the levels of a name in which files and memory differ."""
    inside = re.sub(r"^(model\.)?(language_model\.)?(model\.)?", "", name)
    return re.sub(r"^vision_tower\.vision_model\.", "vision_tower.", inside)


def require_same(needed: Mapping[str, Tensor], stored: Mapping[str, Stored]) -> None:
    """Raise ValueError unless the files hold just the tensors that the model has places for."""
    if missing := sorted(needed.keys() - stored.keys()):
        raise ValueError(f"tensors are missing from {files_of(stored)}: {few(missing)}")
    stray = [name for name in sorted(stored.keys() - needed.keys()) if not name.endswith(LEGACY)]
    if stray:
        file = stored[stray[0]].file
        raise ValueError(f"{file} holds tensors that the model has no place for: {few(stray)}")
    for name, tensor in needed.items():
        if stored[name].shape != tuple(tensor.shape):
            raise ValueError(
                f"{name} in {stored[name].file} has the shape {stored[name].shape}, "
                f"and the model wants {tuple(tensor.shape)}"
            )


def files_of(stored: Mapping[str, Stored]) -> str:
    """List the files that were read."""
    return ", ".join(sorted({each.file for each in stored.values()}))


def few(names: Sequence[str]) -> str:
    """List the first names, and count the others."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
