"""compressed-tensors, pack-quantized: what plain transformers, vLLM and SGLang load.

On disk, for a weight of shape (out, in): `weight_packed` int32 (out, words of a row), each row a
dense stream; `weight_scale` (out, groups) in the model's dtype; `weight_shape` int64 (2,); and for
asymmetric weights `weight_zero_point` int32 (words of a column, groups), packed down the rows.
Codes and zeros are stored as unsigned numbers. That is the layout of compressed-tensors 0.18 and
later; earlier versions pad 3 bits differently, and only the config's `version` tells them apart.

transformers 5.23 reads asymmetric files only with `"dequantize": true` in the config (it expects
unpacked zeros otherwise), and then takes the first config group for every module: with a second
scheme in the file it would compute garbage without a word. `model_mistake` refuses that pair.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from hubq import packing
from hubq.errors import UserError
from hubq.format import AffineFormat, Embedding
from hubq.scheme import Scheme, difference, schemes
from hubq.tensors import PER_CHANNEL, Affine, QuantizedTensor

LAYOUT_VERSION = "0.18.0"  # the first release with this layout, whichever is installed here
LAYOUT = "pack-quantized"
EVERY_LINEAR = "Linear"


class CompressedTensors(AffineFormat):
    """Affine weights of 2 to 8 bits, symmetric or not, in groups or whole rows."""

    name: ClassVar[str] = "compressed-tensors"
    loads_in: ClassVar[str] = "transformers with compressed-tensors, vLLM, SGLang (4 and 8 bits)"

    def scale_dtype(self, model: torch.dtype) -> torch.dtype:
        """Return the model's dtype: readers hold scales in it."""
        return model

    def layout_mistake(self, tensor: Affine) -> str | None:
        """Refuse nothing more: any width and shape fits."""
        return None

    def model_mistake(self, quantized: Mapping[str, QuantizedTensor]) -> str | None:
        """Refuse asymmetric weights of more than one scheme, which load as garbage."""
        different = difference(quantized)
        if different is None or all(scheme.symmetric for scheme in schemes(quantized).values()):
            return None
        return (
            "transformers reads an asymmetric compressed-tensors model only when all its modules "
            f"share one scheme ({different}); use symmetric: true, or embeddings: 16"
        )

    def embeddings(self, tied: bool) -> frozenset[Embedding]:
        """Allow an untied lm_head: transformers and vLLM load no packed embed_tokens."""
        return frozenset() if tied else frozenset({"lm_head"})

    def pack(self, module: str, tensor: QuantizedTensor) -> dict[str, Tensor]:
        """Pack rows densely, and zeros down the output dimension."""
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
        arguments = _arguments_of(module, config)
        bits = arguments["num_bits"]
        out, columns = tensors[f"{module}.weight_shape"].tolist()
        zero = tensors.get(f"{module}.weight_zero_point")
        return Affine(
            codes=packing.unpack(tensors[f"{module}.weight_packed"], bits, columns),
            scale=tensors[f"{module}.weight_scale"],
            zero=None if zero is None else packing.unpack_columns(zero, bits, out),
            bits=bits,
            group_size=arguments["group_size"] or columns,
        )

    def config(
        self, quantized: Mapping[str, QuantizedTensor], kept: Sequence[str]
    ) -> dict[str, Any]:
        """Return one config group for each scheme; the commonest is that of every Linear."""
        its = schemes(quantized)
        found = Counter(its.values()).most_common()
        groups = {}
        # Readers take the first match, so named modules come before "Linear".
        for number, (scheme, _) in enumerate(reversed(found)):
            named = [module for module in its if its[module] == scheme]
            targets = [EVERY_LINEAR] if scheme == found[0][0] else named
            groups[f"group_{number}"] = _config_group(scheme, targets)
        asymmetric = not all(scheme.symmetric for scheme in its.values())
        return {
            "quant_method": "compressed-tensors",
            "format": LAYOUT,
            "quantization_status": "compressed",
            "config_groups": groups,
            "ignore": sorted({*kept, "lm_head"} - its.keys()),
            "kv_cache_scheme": None,
            "version": LAYOUT_VERSION,
            **({"dequantize": True} if asymmetric else {}),
        }


def _config_group(scheme: Scheme, targets: list[str]) -> dict[str, Any]:
    """Describe a scheme; `actorder` stays out, since columns are in order and vLLM minds it."""
    whole_row = scheme.group_size == PER_CHANNEL
    return {
        "targets": targets,
        "weights": {
            "num_bits": scheme.bits,
            "type": "int",
            "symmetric": scheme.symmetric,
            "strategy": "channel" if whole_row else "group",
            "group_size": None if whole_row else scheme.group_size,
            "dynamic": False,
        },
        "input_activations": None,
        "output_activations": None,
        "format": LAYOUT,
    }


def _arguments_of(module: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Find the `weights` entry that a module's name, or its being a Linear, selects."""
    for target in (module, EVERY_LINEAR):
        for group in config["config_groups"].values():
            if target in group["targets"]:
                arguments: dict[str, Any] = group["weights"]
                return arguments
    raise UserError(f"quantization_config has no config group for {module}")


FORMAT = CompressedTensors()
