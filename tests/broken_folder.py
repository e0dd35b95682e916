"""Quantized folders, damaged at random: what they say, and how their tensors lie."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

NONSENSE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    7,
    1 << 31,
    1 << 70,
    1.5,
    math.inf,
    math.nan,
    "",
    "re:(",
    "tensor",
    [],
    [[]],
    [None],
    {},
    {"a": {"b": []}},
)
Places = list[tuple[Any, Any]]  # an object or a list, and a key or a number in it


def places(value: Any) -> Places:
    """List all places of a JSON value."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [each for key in keys for each in places(value[key])]


def damage_settings(folder: Path, chance: Random) -> str:
    """Put nonsense at one place of the quantization_config, or take that place out."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    value, key = chance.choice(places(config["quantization_config"]))
    if chance.random() < 0.2:
        del value[key]
        said = f"without {key}"
    else:
        value[key] = chance.choice(NONSENSE)
        said = f"{key}: {value[key]!r}"
    path.write_text(json.dumps(config))
    return said


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "as float32": lambda tensor: tensor.float(),
    "as int64": lambda tensor: tensor.nan_to_num().to(torch.int64),
    "as int32": lambda tensor: tensor.nan_to_num().to(torch.int32),
    "as bool": lambda tensor: tensor != 0,
    "flat": lambda tensor: tensor.flatten(),
    "with a dimension more": lambda tensor: tensor[None],
    "without its last row": lambda tensor: tensor[:-1],
    "without its last column": lambda tensor: tensor[..., :-1],
    "with its first row twice": lambda tensor: torch.cat((tensor[:1], tensor)),
    "without rows": lambda tensor: tensor[:0],
    "a single number": lambda tensor: tensor.flatten()[0].reshape(()),
}
FILLS = ("nan", "inf")  # what indexes and scales may be filled with


def damage_tensors(folder: Path, chance: Random) -> str:
    """Change one tensor of a quantized module, or take it out."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = chance.choice(sorted(name for name in tensors if "_proj." in name))
    changes = [*CHANGES, "gone", *(FILLS if name.endswith(("idx", "scales", "scale")) else ())]
    change = chance.choice(changes)
    if change == "gone":
        del tensors[name]
    elif change in FILLS:
        filled = torch.full(tensors[name].shape, float(change))
        tensors[name] = filled.nan_to_num().int() if name.endswith("idx") else filled
    elif change != "as float32" or not name.endswith(("scales", "scale")):  # these may be wider
        tensors[name] = CHANGES[change](tensors[name]).contiguous()
    save_file(tensors, path, {"format": "pt"})
    return f"{name} {change}"


def broken(folder: Path, copy: Path, chance: Random) -> str:
    """Make a damaged copy of a folder in the place of the last one; say what was done to it."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    return chance.choice((damage_settings, damage_tensors))(copy, chance)
