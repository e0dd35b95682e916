"""The dense weights of a model's folder, packed or not, read one at a time."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from hubq.formats.foreign.folder import QuantizedFolder
from hubq.runtime.headers import LEGACY
from hubq.sources.shards import Weights
from hubq.sources.tensor_headers import DTYPES
from hubq.stages.convert.files import superfluous
from hubq.tensors import Floating


class DenseWeights:
    """A folder's tensors by the names that they have in a model that isn't quantized."""

    def __init__(self, folder: Path, method: str) -> None:
        """Look at a folder that is quantized by a method; empty: it isn't."""
        self.weights = Weights(folder)
        self.packed = QuantizedFolder(folder) if method else None
        self.others = {name for name in self.weights.info if not name.endswith(LEGACY)}
        if self.packed is not None:
            self.others = {*self.packed.others} - {*superfluous(self.packed)}
        settings = self.packed.quantization if self.packed else {}
        # transformers then unpacks while it loads, in the dtype of the scales.
        self.rounds = method == "compressed-tensors" and bool(settings.get("dequantize"))

    def __iter__(self) -> Iterator[str]:
        """Yield the names of all tensors."""
        yield from self.others
        if self.packed is not None:
            yield from (f"{module}.weight" for module in self.packed.modules)

    def read(self, name: str) -> Tensor:
        """Read a tensor; one that is packed is dequantized in float32, as its readers do."""
        if self.packed is None or name in self.others:
            return self.weights.read(name)
        tensor = self.packed.read(name.removesuffix(".weight"))
        if isinstance(tensor, Floating) and tensor.bits == 4:
            return tensor.dequantize(torch.bfloat16)  # in which compressed-tensors unpacks it
        dense = tensor.dequantize()
        if self.rounds:
            return dense.to(DTYPES[self.weights.info[f"{name}_scale"].dtype])
        return dense
