"""compressed-tensors: what plain transformers, vLLM and SGLang load.

On disk, pack-quantized, for a weight of shape (out, in): `weight_packed` int32 (out, words of a
row), each row a dense stream; `weight_scale` (out, groups) in the model's dtype; `weight_shape`
int64 (2,); and for asymmetric weights `weight_zero_point` int32 (words of a column, groups), packed
down the rows. Codes and zeros are stored as unsigned numbers. That is the layout of
compressed-tensors 0.18 and later; earlier versions pad 3 bits differently, and only the config's
`version` tells them apart.

transformers 5.23 reads asymmetric files only with `"dequantize": true` in the config (it expects
unpacked zeros otherwise), and then takes the first config group for every module: with a second
scheme in the file it would compute garbage without a word. `why_unsupported_together` refuses that
pair.

Rounded activations are declared in the config group (`input_activations`, dynamic, a scale for each
token), and transformers then rounds the inputs of each linear: in the model's dtype, to multiples
of max|x| / ((2^bits - 1) / 2). With `"dequantize": true` it would leave them in 16 bits without a
word, so `why_layout_unsupported` refuses zeros beside them. Weights of 8 bits whose inputs are of 8
bits lie as int-quantized, which the engines' integer kernels read: `weight` int8 (out, in), the
code less 128, and `weight_scale`.

Floats (FP8, NVFP4, MXFP4) lie as hubq/formats/layouts/float_scheme.py says.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar

import torch
from torch import Tensor

from hubq.formats import AffineFormat, Embedding
from hubq.formats.foreign.compressed_tensors import EVERY_LINEAR, read
from hubq.formats.layouts import float_scheme
from hubq.formats.layouts.affine_scheme import Scheme, difference, schemes
from hubq.formats.layouts.float_scheme import FloatScheme
from hubq.sources.vision import VisionFamily
from hubq.tensors import PER_CHANNEL, Affine, Floating, QuantizedTensor, packing

LAYOUT_VERSION = "0.18.0"  # the first release with this layout, whichever is installed here
PACKED = "pack-quantized"
INTEGERS = "int-quantized"
SEVERAL = "mixed-precision"  # in the place of one layout for the whole file


class CompressedTensors(AffineFormat):
    """Affine weights of 2 to 8 bits, symmetric or not, in groups or whole rows; and floats."""

    name: ClassVar[str] = "compressed-tensors"
    loads_in: ClassVar[str] = (
        "transformers with compressed-tensors, vLLM (2 to 8 bits), SGLang (4, 8 bits)"
    )

    def scale_dtype(self, model: torch.dtype) -> torch.dtype:
        """Return the model's dtype: readers hold scales in it."""
        return model

    def has_room(self, tensor: QuantizedTensor) -> bool:
        """Tell whether a tensor is affine, with plain scales, or floats."""
        return isinstance(tensor, Floating) or super().has_room(tensor)

    def why_unsupported(self, tensor: QuantizedTensor) -> str | None:
        """Refuse floats that no engine knows, and what no affine layout holds."""
        if not isinstance(tensor, Floating):
            return super().why_unsupported(tensor)
        if float_scheme.float_scheme(tensor) is not None:
            return None
        return f"{self.name} holds floats as FP8, NVFP4 and MXFP4 define them, and no others"

    def why_layout_unsupported(self, tensor: Affine) -> str | None:
        """Refuse zeros beside rounded activations; any width and shape fits."""
        if tensor.activation_bits is None or tensor.symmetric:
            return None
        return (
            "transformers dequantizes asymmetric compressed-tensors models, and does not round "
            "activations in those; use symmetric: true"
        )

    def why_unsupported_together(self, quantized: Mapping[str, QuantizedTensor]) -> str | None:
        """Refuse asymmetric weights of more than one scheme, which load as garbage."""
        its = _schemes(quantized)
        different = difference(its)
        if different is None or all(scheme.symmetric for scheme in its.values()):
            return None
        return (
            "transformers reads an asymmetric compressed-tensors model only when all its modules "
            f"share one scheme ({different}); use symmetric: true, or embeddings: 16"
        )

    def embeddings(self, tied: bool) -> frozenset[Embedding]:
        """Allow an untied lm_head: transformers loads no packed embed_tokens.

        vLLM does since its request 44340, symmetric and untied ones; SGLang drops them in silence.
        """
        return frozenset() if tied else frozenset({"lm_head"})

    def kv_cache_settings(self) -> dict[str, Any]:
        """Ask readers for FP8 by `k_scale` and `v_scale` (1,) of each attention."""
        return {"kv_cache_scheme": float_scheme.keys_and_values()}

    def pack(self, module: str, tensor: QuantizedTensor) -> dict[str, Tensor]:
        """Pack rows densely, and zeros down the output dimension."""
        if isinstance(tensor, Floating):
            return float_scheme.packed(module, tensor)
        assert isinstance(tensor, Affine)
        if _layout(tensor.bits, tensor.activation_bits) == INTEGERS:
            return {
                f"{module}.weight": (tensor.codes - tensor.middle).view(torch.int8),
                f"{module}.weight_scale": tensor.scales.contiguous(),
            }
        device = tensor.codes.device
        packed = {
            f"{module}.weight_packed": packing.pack(tensor.codes, tensor.bits),
            f"{module}.weight_scale": tensor.scales.contiguous(),
            f"{module}.weight_shape": torch.tensor(tensor.shape, dtype=torch.int64, device=device),
        }
        if tensor.zero is not None:
            zeros = packing.pack_columns(tensor.zero, tensor.bits)
            packed[f"{module}.weight_zero_point"] = zeros
        return packed

    def unpack(
        self, module: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]
    ) -> QuantizedTensor:
        """Read one module back; also one that another writer packed."""
        return read(module, tensors, config)

    def config(
        self,
        quantized: Mapping[str, QuantizedTensor],
        kept: Sequence[str],
        sees: VisionFamily | None = None,
    ) -> dict[str, Any]:
        """Return one config group for each scheme; the commonest is that of every Linear."""
        its = _schemes(quantized)
        found = Counter(its.values()).most_common()
        groups = {}
        # Readers take the first match, so named modules come before "Linear".
        for number, (scheme, _) in enumerate(reversed(found)):
            named = [_target(module, sees) for module in its if its[module] == scheme]
            targets = [EVERY_LINEAR] if scheme == found[0][0] else named
            groups[f"group_{number}"] = _config_group(scheme, targets)
        asymmetric = not all(scheme.symmetric for scheme in its.values())
        layouts = {group["format"] for group in groups.values()}
        return {
            "quant_method": "compressed-tensors",
            "format": layouts.pop() if len(layouts) == 1 else SEVERAL,
            "quantization_status": "compressed",
            "config_groups": groups,
            "ignore": _ignored({*kept, "lm_head"} - its.keys(), sees),
            "kv_cache_scheme": None,
            "version": LAYOUT_VERSION,
            **({"dequantize": True} if asymmetric else {}),
        }


def _schemes(quantized: Mapping[str, QuantizedTensor]) -> dict[str, Scheme | FloatScheme]:
    """Name the scheme of each module."""
    floats = {name: each for name, each in quantized.items() if isinstance(each, Floating)}
    integers = schemes({name: each for name, each in quantized.items() if name not in floats})
    named = {name: float_scheme.float_scheme(each) for name, each in floats.items()}
    known = {name: scheme for name, scheme in named.items() if scheme is not None}
    assert len(known) == len(named), "a format was given what its `why_unsupported` refuses"
    return {name: integers[name] if name in integers else known[name] for name in quantized}


def _target(module: str, sees: VisionFamily | None) -> str:
    """Name a module; of a model that sees by what readers of all its names understand."""
    if sees is None:
        return module
    inside = module.removeprefix(f"{sees.body}.")
    return f"re:(.*[.])?{re.escape(inside)}$"


def _ignored(kept: AbstractSet[str], sees: VisionFamily | None) -> list[str]:
    """List what is no quantized Linear; of a model that sees by patterns."""
    if sees is None:
        return sorted(kept)
    return [*(f"re:.*{name}" for name in sorted(kept)), *(f"re:.*{each}.*" for each in sees.sees)]


def _config_group(scheme: Scheme | FloatScheme, targets: list[str]) -> dict[str, Any]:
    """Describe a scheme; `actorder` stays out, since columns are in order and vLLM minds it."""
    if isinstance(scheme, FloatScheme):
        return {"targets": targets, **float_scheme.described(scheme)}
    whole_row = scheme.group_size == PER_CHANNEL
    inputs = scheme.activation_bits
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
        "input_activations": None if inputs is None else _activations(inputs),
        "output_activations": None,
        "format": _layout(scheme.bits, inputs),
    }


def _activations(bits: int) -> dict[str, Any]:
    """Ask readers to round each token's inputs as they arrive."""
    return {
        "num_bits": bits,
        "type": "int",
        "symmetric": True,
        "strategy": "token",
        "group_size": None,
        "dynamic": True,
    }


def _layout(bits: int, activation_bits: int | None) -> str:
    """Name the layout: what has an integer kernel lies as integers, all else is packed."""
    return INTEGERS if bits == activation_bits == 8 else PACKED


FORMAT = CompressedTensors()
