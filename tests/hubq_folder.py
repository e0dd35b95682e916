"""Write a model folder of any representation that its format holds, and its dequantized twin."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hubq.formats import format_named
from hubq.sources.auxiliary_files import auxiliary_files
from hubq.tensors import Affine, Grid, QuantizedTensor

# From a module's name and its weight to what is stored; None where the weight stays.
Quantize = Callable[[str, Tensor], QuantizedTensor | None]
IDS = torch.arange(40).view(2, 20)


def round_linears(module: str, weight: Tensor) -> QuantizedTensor | None:
    """Round the linears inside of blocks to 3 bits."""
    return Affine.fit(weight, Grid(bits=3, group_size=32)) if module.endswith("_proj") else None


def round_all(module: str, weight: Tensor) -> QuantizedTensor | None:
    """Round embeddings and head to 4 bits too; the norms stay."""
    return round_linears(module, weight) or (
        Affine.fit(weight, Grid(bits=4, group_size=32)) if weight.dim() == 2 else None
    )


def write(
    base: Path, folder: Path, quantize: Quantize = round_linears, format_name: str = "hubq"
) -> Path:
    """Write the quantized copy to `folder` and the dequantized one beside it; return that one."""
    form = format_named(format_name)
    weights = load_file(base / "model.safetensors")
    packed: dict[str, Tensor] = {}
    dense: dict[str, Tensor] = {}
    quantized: dict[str, QuantizedTensor] = {}
    for name, weight in weights.items():
        module = name.removesuffix(".weight")
        tensor = quantize(module, weight.float())
        packed |= {name: weight} if tensor is None else form.pack(module, tensor)
        dense[name] = (
            weight if tensor is None else tensor.dequantize().to(weight.dtype).contiguous()
        )
        if tensor is not None:
            quantized[module] = tensor
    twin = folder.with_name(f"{folder.name}-dequantized")
    shutil.copytree(base, twin)
    save_file(dense, twin / "model.safetensors", {"format": "pt"})
    config = form.config(quantized, [])
    folder.mkdir()
    dtype = json.loads((base / "config.json").read_text())["dtype"]
    additions = form.config_additions()
    files = auxiliary_files(base, config, dtype=dtype, license=None, additions=additions).files
    for name, content in {**files, **form.extra_files(config)}.items():
        (folder / name).write_bytes(content)
    save_file(packed, folder / "model.safetensors", {"format": "pt"})
    return twin
