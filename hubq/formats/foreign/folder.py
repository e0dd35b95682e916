"""A quantized model folder that anyone wrote: its modules one at a time, and all that is beside.

What its architecture calls for (`shapes_of`) is compared with the tensors that are there.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from hubq.errors import UserError
from hubq.formats import format_named
from hubq.formats.foreign import fp8
from hubq.formats.foreign.metadata import quantization_of
from hubq.formats.foreign.parts import contradiction
from hubq.machine.files import read_object
from hubq.runtime.headers import LEGACY
from hubq.sources import skeleton
from hubq.sources.architecture import FAMILIES
from hubq.sources.folder import require_safetensors
from hubq.sources.shards import Weights
from hubq.sources.source import BY_HEADER
from hubq.tensors import Affine, QuantizedTensor, Reordered

Shapes = Mapping[str, tuple[int, ...]]
FAULTS = (*skeleton.FAULTS, SafetensorError)  # at a config, or at tensors
# By format: the tensors that make up a module, the first of which it can't do without.
PARTS = {
    "gptq": ("qweight", "qzeros", "scales", "g_idx"),
    "awq": ("qweight", "qzeros", "scales"),
    "compressed-tensors": (
        "weight_scale",
        "weight_packed",
        "weight_shape",
        "weight_zero_point",
        "weight_g_idx",
        "weight",
        "weight_global_scale",
        "input_scale",
        "input_global_scale",
    ),
    "fp8": ("weight_scale_inv", "weight", "input_scale", "activation_scale"),
}
CODES = ("qweight", "weight_packed")  # the large ones, where a module has them by these names
KEPT = ("weight", "bias")
HEAD = "lm_head"


def shapes_of(folder: Path, config: Mapping[str, Any], tensors: int) -> Shapes | None:
    """Return the shape of each tensor of the model that a config describes, none of them quantized.

    None for an architecture that hubq does not know. Raises UserError for a config that makes no
    model, or more layers than the folder has `tensors` for.
    """
    names, blocks = config.get("architectures"), config.get("num_hidden_layers")
    if not (isinstance(names, list) and names and names[0] in list(FAMILIES)):
        return None
    if type(blocks) is not int or blocks > tensors:
        raise UserError(
            f"{folder}: config.json says num_hidden_layers: {str(blocks)[:80]}, but there are "
            f"{tensors} tensors; fetch the model again"
        )
    try:
        model = skeleton.without_weights(config)
    except FAULTS as error:
        raise UserError(
            f"{folder}: config.json does not make a {names[0]} ({type(error).__name__}: "
            f"{str(error)[:300]}); fetch the model again"
        ) from error
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


class QuantizedFolder:
    """The parts of a quantized folder; UserError where they are missing or contradict."""

    def __init__(self, folder: Path) -> None:
        require_safetensors(
            folder,
            otherwise="name another folder or a repo",
            pickled="Look for the same model in safetensors; or, if you trust it, save "
            "it so with its library.",
        )
        self.folder = folder
        self.config = read_object(folder / "config.json")
        self.quantization = quantization_of(folder, self.config)
        self.method: str = self.quantization["quant_method"]
        # What hubq writes as well as reads is a format; 8-bit floats it only reads.
        self.unpack = fp8.read if self.method == "fp8" else format_named(self.method).unpack
        self.weights = Weights(folder)
        self.modules = self._modules()  # name -> the names of its tensors
        if not self.modules:
            raise UserError(
                f"{folder} holds no {self.method} tensors, though its quantization_config says "
                "so; fetch the model again"
            )
        self._require_known_parts()
        self.shapes = shapes_of(folder, self.config, len(self.weights.info))
        if self.shapes is not None:
            self._require_whole(self.shapes)

    def read(self, module: str, *, codes: bool = True) -> QuantizedTensor:
        """Read a module; without `codes` these have no data, where the format allows that."""
        tensors = {}
        for name in self.modules[module]:
            if not codes and name.rpartition(".")[2] in CODES:
                shape = self.weights.info[name].shape
                tensors[name] = torch.empty(shape, dtype=torch.int32, device="meta")
            else:
                tensors[name] = self.weights.read(name)
        tensor = self.unpack(module, tensors, self.quantization)
        expected = (self.shapes or {}).get(f"{module}.weight", tensor.shape)
        if tensor.shape != expected:
            said = f"the weight {tuple(expected)}, in config.json,"
            raise contradiction(module, said, f"holds one of {tuple(tensor.shape)}")
        return _in_dtype(tensor, getattr(torch, self.dtype))

    @cached_property
    def others(self) -> list[str]:
        """The tensors that no quantized module has, but buffers that follow from the config."""
        packed = {name for names in self.modules.values() for name in names}
        return [
            name for name in self.weights.info if name not in packed and not name.endswith(LEGACY)
        ]

    @property
    def dtype(self) -> str:
        """The dtype that the model runs in: config.json's, or that of what is not quantized."""
        said = str(self.config.get("dtype") or self.config.get("torch_dtype") or "")
        named = said.removeprefix("torch.")
        if named in BY_HEADER.values():
            return named
        found = [self.weights.info[name].dtype for name in self.others]
        floats = [each for each in found if each in BY_HEADER] or ["BF16"]
        return BY_HEADER[max(set(floats), key=floats.count)]

    @property
    def tied(self) -> bool:
        """Whether embeddings and head are one tensor."""
        return bool(self.config.get("tie_word_embeddings", False))

    def _modules(self) -> dict[str, list[str]]:
        if self.method == "hubq":
            listed = self.quantization.get("modules")
            if not isinstance(listed, dict):
                raise UserError(f"{self.folder} lists no modules in its quantization_config")
            return {module: self._named(module) for module in listed}
        first, *_ = parts = PARTS[self.method]
        owners = [
            name.removesuffix(f".{first}")
            for name in self.weights.info
            if name.endswith(f".{first}")
        ]
        return {
            owner: [f"{owner}.{part}" for part in parts if f"{owner}.{part}" in self.weights.info]
            for owner in owners
        }

    def _named(self, module: str) -> list[str]:
        """List the tensors of a module of the hubq format: weight, weight_scale, ..."""
        start = f"{module}.weight"
        return [name for name in self.weights.info if name == start or name.startswith(f"{start}_")]

    def _require_known_parts(self) -> None:
        """Refuse tensors of a quantized module that would be left without a meaning."""
        for name in self.others:
            if self.weights.info[name].dtype not in BY_HEADER:
                raise UserError(
                    f"{self.folder} has a tensor {name} of {self.weights.info[name].dtype} "
                    f"without the other tensors of a {self.method} module: the files are "
                    "incomplete; fetch the model again"
                )
            module, _, part = name.rpartition(".")
            if module in self.modules and part != "bias":
                raise UserError(
                    f"{self.folder} has a tensor {name}, which is in no {self.method} module that "
                    "hubq reads: what it changes would be lost"
                )

    def _require_whole(self, shapes: Shapes) -> None:
        """Refuse a model of a known family that has not just the tensors of its architecture."""
        info, tied = self.weights.info, f"{HEAD}.weight" if self.tied else ""
        there = {name: info[name].shape for name in self.others}
        there |= {f"{module}.weight": () for module in self.modules}
        for name, shape in shapes.items():
            found = there.pop(name, None)
            if found is None and name != tied:
                raise UserError(
                    f"{self.folder} has no weights of {name.removesuffix('.weight')}, which its "
                    "config.json promises: a file is missing; fetch the model again"
                )
            if found not in (None, (), shape):
                raise UserError(
                    f"{self.folder} has {name} of the shape {found}, but its config.json makes it "
                    f"{shape}: one of them is from another model; fetch it again"
                )
        strange = [name for name in there if name.rpartition(".")[0] not in self.modules]
        if strange:
            raise UserError(
                f"{self.folder} holds {strange[0]}, which a model of its architecture and "
                "config.json does not have: what it changes would be lost. Fetch the model "
                "again, or look for another version of it"
            )


def _in_dtype(tensor: QuantizedTensor, dtype: torch.dtype) -> QuantizedTensor:
    """Hold scales in the model's dtype where that changes none: readers then round nothing."""
    if isinstance(tensor, Reordered):
        return replace(tensor, inner=_in_dtype(tensor.inner, dtype))
    if not isinstance(tensor, Affine) or not isinstance(tensor.scale, Tensor):
        return tensor
    scale = tensor.scale.to(dtype)
    same = dtype.itemsize == 2 and torch.equal(scale.to(tensor.scale.dtype), tensor.scale)
    return replace(tensor, scale=scale) if same else tensor
