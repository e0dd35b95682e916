"""A model's folder as other tools leave it: the same weights under other names, in other files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

State = dict[str, Tensor]


def rewrite(folder: Path, change: Callable[[State], State]) -> None:
    """Change the tensors of a folder's one file."""
    path = folder / "model.safetensors"
    save_file({name: each.clone() for name, each in change(load_file(path)).items()}, path)


def renaming(change: Callable[[str], str]) -> Callable[[State], State]:
    """Return a change of names."""
    return lambda state: {change(name): each for name, each in state.items()}


def configure(folder: Path, **changes: object) -> None:
    """Change config.json."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def pickle_weights(folder: Path, *, shards: int = 1, zipped: bool = True) -> None:
    """Put pickles as torch writes them in the place of safetensors."""
    path = folder / "model.safetensors"
    state = load_file(path)
    path.unlink()
    names = sorted(state)
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        return
    weight_map: dict[str, str] = {}
    for number in range(shards):
        file = f"pytorch_model-{number + 1:05d}-of-{shards:05d}.bin"
        torch.save({name: state[name] for name in names[number::shards]}, folder / file)
        weight_map |= dict.fromkeys(names[number::shards], file)
    (folder / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )


def logits(folder: Path, **options: Any) -> Tensor:
    """Return what plain transformers computes for a few tokens; every tensor must arrive."""
    from transformers import AutoModelForCausalLM

    loader: Any = AutoModelForCausalLM
    model, info = loader.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, **options
    )
    assert not info["missing_keys"]
    with torch.inference_mode():
        found: Tensor = model(torch.arange(12)[None]).logits
    return found
