"""compressed-tensors, pack-quantized: what plain transformers, vLLM and SGLang load.

On disk, for a weight of shape (out, in): `weight_packed` int32 (out, words of a row), each row a
dense stream; `weight_scale` (out, groups) in the model's dtype; `weight_shape` int64 (2,); and for
asymmetric weights `weight_zero_point` int32, packed down the rows of each group's column. Codes
and zeros are stored as unsigned numbers. That is the layout of compressed-tensors 0.18 and later;
earlier versions pad 3 bits differently, and the config's `version` is all that tells them apart.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from hubq import packing
from hubq.errors import UserError
from hubq.format import Format
from hubq.tensors import Affine, QuantizedTensor

LAYOUT_VERSION = "0.18.0"  # the first release with this layout, whichever is installed here
LAYOUT = "pack-quantized"
EVERY_LINEAR = "Linear"


class Scheme(NamedTuple):
    """What modules of one config group have in common."""

    bits: int
    group_size: int | None  # None: a whole row
    symmetric: bool

    def arguments(self) -> dict[str, Any]:
        """Return the group's `weights` entry; what is left out has the reader's default."""
        return {
            "num_bits": self.bits,
            "type": "int",
            "symmetric": self.symmetric,
            "strategy": "channel" if self.group_size is None else "group",
            "group_size": self.group_size,
            "dynamic": False,
        }


class CompressedTensors(Format):
    """Affine weights of 2 to 8 bits, symmetric or not, in groups or whole rows."""

    name: ClassVar[str] = "compressed-tensors"
    loads_in: ClassVar[str] = "transformers with compressed-tensors, vLLM, SGLang (4 and 8 bits)"

    def scale_dtype(self, model: torch.dtype) -> torch.dtype:
        """Return the model's dtype: readers hold scales in it."""
        return model

    def mistake(self, tensor: QuantizedTensor) -> str | None:
        """Refuse what isn't affine, and a ragged last group, which the reader can't take."""
        if not isinstance(tensor, Affine):
            return f"compressed-tensors holds affine weights, not {type(tensor).__name__}"
        columns = tensor.shape[1]
        if columns % tensor.group_size:
            return (
                f"compressed-tensors needs groups of equal size, and {tensor.group_size} does not "
                f"divide {columns} inputs; use a group_size that does, or -1 (a whole row)"
            )
        return None

    def pack(self, module: str, tensor: QuantizedTensor) -> dict[str, Tensor]:
        """Pack rows densely; zeros are packed down the output dimension."""
        assert isinstance(tensor, Affine)
        device = tensor.codes.device
        packed = {
            f"{module}.weight_packed": packing.pack(tensor.codes, tensor.bits),
            f"{module}.weight_scale": tensor.scale.contiguous(),
            f"{module}.weight_shape": torch.tensor(tensor.shape, dtype=torch.int64, device=device),
        }
        if tensor.zero is not None:
            zeros = packing.pack_columns(tensor.zero, tensor.bits)
            packed[f"{module}.weight_zero_point"] = zeros
        return packed

    def unpack(
        self, module: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]
    ) -> Affine:
        """Read one module back."""
        bits = _arguments_of(module, config)["num_bits"]
        scale = tensors[f"{module}.weight_scale"]
        out, columns = tensors[f"{module}.weight_shape"].tolist()
        zero = tensors.get(f"{module}.weight_zero_point")
        return Affine(
            codes=packing.unpack(tensors[f"{module}.weight_packed"], bits, columns),
            scale=scale,
            zero=None if zero is None else packing.unpack_columns(zero, bits, out),
            bits=bits,
            group_size=columns // scale.shape[1],
        )

    def config(
        self, quantized: Mapping[str, QuantizedTensor], kept: Sequence[str]
    ) -> dict[str, Any]:
        """Return one config group for each scheme; the commonest is that of every Linear."""
        schemes = _schemes(quantized)
        by_use = Counter(schemes.values()).most_common()
        groups = {}
        for number, (scheme, _) in enumerate(by_use):
            named = [module for module, its in schemes.items() if its == scheme]
            groups[f"group_{number}"] = {
                "targets": [EVERY_LINEAR] if number == 0 else named,
                "weights": scheme.arguments(),
                "input_activations": None,
                "output_activations": None,
                "format": LAYOUT,
            }
        asymmetric = any(not scheme.symmetric for scheme, _ in by_use)
        return {
            "quant_method": "compressed-tensors",
            "format": LAYOUT,
            "quantization_status": "compressed",
            "config_groups": groups,
            "ignore": sorted({*kept, "lm_head"} - set(quantized)),
            "kv_cache_scheme": None,
            "version": LAYOUT_VERSION,
            # Without it transformers expects unpacked zeros and refuses the file.
            **({"dequantize": True} if asymmetric else {}),
        }


def _schemes(quantized: Mapping[str, QuantizedTensor]) -> dict[str, Scheme]:
    """Name each module's scheme; one group a row counts as a group size that others use."""
    affine = {name: tensor for name, tensor in quantized.items() if isinstance(tensor, Affine)}
    assert len(affine) == len(quantized)
    sizes = {
        (each.bits, each.symmetric, each.group_size)
        for each in affine.values()
        if each.group_size < each.shape[1]
    }

    def scheme(tensor: Affine) -> Scheme:
        whole_row = tensor.group_size == tensor.shape[1]
        shared = (tensor.bits, tensor.symmetric, tensor.group_size) in sizes
        size = None if whole_row and not shared else tensor.group_size
        return Scheme(tensor.bits, size, tensor.symmetric)

    return {name: scheme(tensor) for name, tensor in affine.items()}


def _arguments_of(module: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Find the `weights` entry that a module's name or its being a Linear selects."""
    groups = config["config_groups"].values()
    for target in (module, EVERY_LINEAR):
        for group in groups:
            if target in group["targets"]:
                arguments: dict[str, Any] = group["weights"]
                return arguments
    raise UserError(f"quantization_config has no config group for {module}")


FORMAT = CompressedTensors()
