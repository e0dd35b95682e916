"""Write a model folder as the quantize stage would, RTN for a method, and its dequantized twin."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import load_file, save_file

from hubq.formats import Format
from hubq.sources.auxiliary_files import auxiliary_files
from hubq.tensors import Affine, Grid


@dataclass(frozen=True)
class Choice:
    """What to quantize, and how."""

    form: Format
    linears: Grid
    head: Grid | None = None
    activation_bits: int | None = None  # of the linears' inputs, not of the head's

    def grid(self, module: str) -> Grid | None:
        """Return the grid of a module, or None for one that stays."""
        if module.endswith("_proj"):
            return self.linears
        return self.head if module == "lm_head" else None


def write(base: Path, folder: Path, choice: Choice) -> Path:
    """Write the quantized copy to `folder` and the dequantized one beside it; return that one."""
    weights = load_file(base / "model.safetensors")
    packed, dense, quantized = {}, dict(weights), {}
    for name, weight in weights.items():
        module = name.removesuffix(".weight")
        grid = choice.grid(module)
        if grid is None:
            packed[name] = weight
            continue
        tensor = Affine.fit(weight.float(), grid)
        inputs = None if module == "lm_head" else choice.activation_bits
        quantized[module] = replace(tensor, activation_bits=inputs)
        packed |= choice.form.pack(module, quantized[module])
        dense[name] = quantized[module].dequantize().to(weight.dtype)
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
