"""A folder that hubq quantized, in any of its formats: its tensors, packed or not, one at a time.

`hubq/formats/foreign/folder.py` reads what anybody wrote, and so it checks it; what is read here is
what a checkpoint lists.
"""

from pathlib import Path

from torch import Tensor

from hubq.formats import format_named
from hubq.machine.files import read_object
from hubq.sources.shards import Weights
from hubq.tensors import QuantizedTensor

DENSE = {"quant_method": "dense"}  # what goes without saying


class QuantizedModules:
    """The tensors of such a folder by the names that they have in a model that isn't quantized."""

    def __init__(self, folder: Path) -> None:
        self.weights = Weights(folder)
        self.config = read_object(folder / "config.json")
        self.quantization = self.config.get("quantization_config", DENSE)
        self.form = format_named(self.quantization["quant_method"])

    def __contains__(self, name: str) -> bool:
        """Tell whether there is a tensor that isn't packed."""
        return name in self.weights.info

    def parts(self, module: str) -> list[str]:
        """List the tensors that a module has but for its bias."""
        start, bias = f"{module}.", f"{module}.bias"
        return [name for name in self.weights.info if name.startswith(start) and name != bias]

    def module(self, name: str) -> QuantizedTensor:
        """Read a quantized module."""
        tensors = {part: self.weights.read(part) for part in self.parts(name)}
        return self.form.unpack(name, tensors, self.quantization)

    def read(self, name: str) -> Tensor:
        """Read a tensor; one that is packed is dequantized, (out, in) float32."""
        packed = self._packed(name)
        return self.weights.read(name) if packed is None else packed.dequantize()

    def rows(self, name: str, which: Tensor) -> Tensor:
        """Read some rows of a matrix, (n,) int64 to (n, in); of a packed one in float32."""
        packed = self._packed(name)
        return self.weights.rows(name, which) if packed is None else packed.dequantize()[which]

    def _packed(self, name: str) -> QuantizedTensor | None:
        """Read the module whose weight a tensor is, where that is packed."""
        module = name.removesuffix(".weight")
        packed = name not in self or len(self.parts(module)) > 1
        return self.module(module) if packed else None
