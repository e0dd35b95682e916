"""Write a model folder as the quantize stage would, RTN for a method, and its dequantized twin."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hubq.formats import Format
from hubq.methods import Inputs, Layer, Method
from hubq.sources.auxiliary_files import auxiliary_files
from hubq.tensors import Affine, Grid, QuantizedTensor

GREATEST_INPUT = 3.0  # that calibration would have shown


@dataclass(frozen=True)
class Choice:
    """What to quantize, and how."""

    form: Format
    linears: Grid | Method  # or what quantizes them, without data but the greatest inputs
    head: Grid | None = None
    activation_bits: int | None = None  # of the linears' inputs, not of the head's

    def grid(self, module: str) -> Grid | Method | None:
        """Return the grid of a module, or None for one that stays."""
        if module.endswith("_proj"):
            return self.linears
        return self.head if module == "lm_head" else None

    def quantized(self, module: str, weight: Tensor) -> QuantizedTensor | None:
        """Return what a weight becomes, or None for one that stays."""
        grid = self.grid(module)
        if isinstance(grid, Method):
            inputs = Inputs(1, max_magnitude=torch.full((weight.shape[1],), GREATEST_INPUT))
            return grid.quantize(Layer(module, weight.float(), inputs))
        if grid is None:
            return None
        inputs_bits = None if module == "lm_head" else self.activation_bits
        return replace(Affine.fit(weight.float(), grid), activation_bits=inputs_bits)


def write(base: Path, folder: Path, choice: Choice) -> Path:
    """Write the quantized copy to `folder` and the dequantized one beside it; return that one."""
    weights = load_file(base / "model.safetensors")
    packed, dense, quantized = {}, dict(weights), {}
    for name, weight in weights.items():
        module = name.removesuffix(".weight")
        tensor = choice.quantized(module, weight)
        if tensor is None:
            packed[name] = weight
            continue
        quantized[module] = tensor
        packed |= choice.form.pack(module, tensor)
        dense[name] = tensor.dequantize().to(weight.dtype)
    twin = folder.with_name(f"{folder.name}-dequantized")
    shutil.copytree(base, twin)
    save_file(dense, twin / "model.safetensors", {"format": "pt"})
    config = choice.form.config(quantized, [])
    folder.mkdir()
    dtype = json.loads((base / "config.json").read_text())["dtype"]
    files = auxiliary_files(base, config, dtype=dtype, license=None).files
    for name, content in {**files, **choice.form.extra_files(config)}.items():
        (folder / name).write_bytes(content)
    save_file(packed, folder / "model.safetensors", {"format": "pt"})
    return twin
