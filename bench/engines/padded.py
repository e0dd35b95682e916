"""A real model whose widths every kernel takes: SmolLM2-135M-Instruct, filled up with zeros.

Its 576 inputs are not divisible by 128. With zeros up to 768, and with heads without weights up to
12 (4 of keys and values), it computes the same function: zeros add nothing to a product, and a
norm, which now divides by a mean over more channels, gets weights that make up for that. Only its
first blocks are kept, so that an engine takes seconds.
"""

import json
import math
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file
from subject import QUICKSTART
from torch import Tensor, nn

from hubq.client.client import Client
from hubq.machine.files import partial_folder, put_in_place
from hubq.sources.find import fetch, find
from hubq.stages.recipe.recipe import read

UNIT = 128  # the widest groups that are tried
BLOCKS = 8
NAME = f"the first {BLOCKS} blocks of SmolLM2-135M-Instruct, filled up to widths of {UNIT}"


def padded(folder: Path) -> Path:
    """Write the model, once; return its folder."""
    if not folder.is_dir():
        client = Client()
        base = fetch(find(read(QUICKSTART).model, client), client)
        fill_up(base, folder)
    return folder


def fill_up(base: Path, folder: Path) -> None:
    """Write a copy of a model whose widths are multiples of UNIT, and that is the same function."""
    config = json.loads((base / "config.json").read_text())
    heads, keys = config["num_attention_heads"], config["num_key_value_heads"]
    size, shared = config["head_dim"], heads // keys
    more = next(n for n in range(keys, UNIT + keys) if n * shared * size % UNIT == 0)
    wider = {
        "hidden_size": more * shared * size,  # transformers wants it to be a multiple of the heads
        "intermediate_size": -(-config["intermediate_size"] // UNIT) * UNIT,
        "num_attention_heads": more * shared,
        "num_key_value_heads": more,
        "num_hidden_layers": min(BLOCKS, config["num_hidden_layers"]),
    }
    width = {config[key]: wider[key] for key in ("hidden_size", "intermediate_size")}
    rows_of = {"k_proj": more * size, "v_proj": more * size}
    weights = {}
    for name, weight in load_file(base / "model.safetensors").items():
        path = name.split(".")
        if path[1] == "layers" and int(path[2]) >= BLOCKS:
            continue
        shape = [width.get(each, each) for each in weight.shape]
        shape[0] = rows_of.get(path[-2], shape[0])
        scale = math.sqrt(config["hidden_size"] / wider["hidden_size"]) if weight.ndim == 1 else 1
        weights[name] = _filled(weight * scale, shape)
    partial = partial_folder(folder)
    files = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(base, partial, ignore=files, dirs_exist_ok=True)
    save_file(weights, partial / "model.safetensors", {"format": "pt"})
    (partial / "config.json").write_text(json.dumps(config | wider, indent=2))
    put_in_place(partial, folder)


def _filled(weight: Tensor, shape: list[int]) -> Tensor:
    """Add zeros behind each dimension."""
    missing = [wanted - there for wanted, there in zip(shape, weight.shape, strict=True)]
    return nn.functional.pad(weight, [n for each in reversed(missing) for n in (0, each)])
