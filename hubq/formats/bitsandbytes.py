"""bitsandbytes: NF4, FP4 and INT8 as that library saves them; transformers loads them with it.

On disk, for a weight of shape (out, in) in 4 bits: `weight` uint8 (out * in / 2, 1), two codes a
byte, the first in the upper half; `weight.absmax`, the scale of each 64 weights in their order,
float32 (out * in / 64,); `weight.quant_map` float32 (16,), the levels; and
`weight.quant_state.bitsandbytes__nf4` (or `__fp4`), the rest as the bytes of a JSON text. Doubly
quantized scales are uint8, with `weight.nested_quant_map` float32 (256,) for their levels and
`weight.nested_absmax` float32 for the scale of each 256; their mean is in the JSON text.
In 8 bits: `weight` int8 (out, in), `SCB` float32 (out,), each row's greatest magnitude, that stands
for 127, and `weight_format` uint8 (), 0 for rows.

`save_pretrained` of a model that has run forward may write corrupt files (version 0.50.2 on
processors with AVX512-BF16 leaves 4-bit weights in the order of its kernel); this one packs what
the library's functions return, and needs the library neither to write nor to read.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from hubq.formats import Format
from hubq.formats.foreign.bitsandbytes import NESTED_BLOCK, STATE, read
from hubq.machine.device import dtype_name
from hubq.sources.vision import VisionFamily
from hubq.tensors import Codebook, QuantizedTensor, Values
from hubq.tensors.codebook import data_type_of

BLOCK = 64  # weights that share a scale in 4 bits
HEAD = "lm_head"  # stays as it is without being named


class BitsAndBytes(Format):
    """Weights with the levels and the scales of bitsandbytes' data types."""

    name: ClassVar[str] = "bitsandbytes"
    loads_in: ClassVar[str] = "transformers with bitsandbytes"

    def scale_dtype(self, model: torch.dtype) -> torch.dtype:
        """Return the model's dtype, which the files name; scales are float32 whatever it is."""
        return model

    def why_unsupported(self, tensor: QuantizedTensor) -> str | None:
        """Refuse what the library's kernels don't compute with."""
        if isinstance(tensor, Codebook) and tensor.shift is not None:
            return "bitsandbytes files hold no shifts of blocks; use format: hubq"
        if isinstance(tensor, Codebook) and _is_held(tensor):
            return None
        return (
            "bitsandbytes files hold only what that library makes; "
            "use method: {name: bitsandbytes}, or another format"
        )

    def why_unsupported_together(self, quantized: Mapping[str, QuantizedTensor]) -> str | None:
        """Refuse more than one data type: the config has a single one."""
        kinds = sorted({_kind(each) for each in quantized.values()})
        if len(kinds) <= 1:
            return None
        return f"a bitsandbytes model has one data type, not {' and '.join(kinds)}"

    def pack(self, module: str, tensor: QuantizedTensor) -> dict[str, Tensor]:
        """Lay a weight out as the library's modules do when they are saved."""
        assert isinstance(tensor, Codebook)
        if tensor.bits == 8:
            assert isinstance(tensor.scale, Tensor)
            return {
                f"{module}.weight": (tensor.codes - 128).view(torch.int8),  # modulo 256
                f"{module}.SCB": tensor.scale.flatten(),
                f"{module}.weight_format": torch.tensor(0, dtype=torch.uint8),
            }
        halves = tensor.codes.reshape(-1, 2)
        parts = {"quant_map": tensor.table, **_packed_scales(tensor.scale)}
        parts[STATE + _kind(tensor)] = _packed_text(_state(tensor))
        return {
            f"{module}.weight": (halves[:, :1] << 4) | halves[:, 1:],
            **{f"{module}.weight.{name}": each for name, each in parts.items()},
        }

    def unpack(
        self, module: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]
    ) -> Codebook:
        """Read one module back."""
        return read(module, tensors, config)

    def config(
        self,
        quantized: Mapping[str, QuantizedTensor],
        kept: Sequence[str],
        sees: VisionFamily | None = None,
    ) -> dict[str, Any]:
        """Return what BitsAndBytesConfig writes; 4-bit linears compute in the model's dtype."""
        first = next(iter(quantized.values()))
        assert isinstance(first, Codebook)
        four = first.bits == 4
        named = [module for module in kept if module != HEAD]
        named += sees.unquantized if sees is not None else ()
        return {
            "_load_in_4bit": four,
            "_load_in_8bit": not four,
            "bnb_4bit_compute_dtype": dtype_name(first.dtype) if four else "float32",
            "bnb_4bit_quant_storage": "uint8",
            "bnb_4bit_quant_type": _kind(first) if four else "fp4",
            "bnb_4bit_use_double_quant": isinstance(first.scale, Codebook),
            "llm_int8_enable_fp32_cpu_offload": False,
            "llm_int8_has_fp16_weight": False,
            "llm_int8_skip_modules": [*named, HEAD] if named else None,
            "llm_int8_threshold": 6.0,
            "load_in_4bit": four,
            "load_in_8bit": not four,
            "quant_method": "bitsandbytes",
        }


def _kind(tensor: QuantizedTensor) -> str:
    """Name the data type of what `why_unsupported` has let through."""
    assert isinstance(tensor, Codebook)
    kind = data_type_of(tensor.table)
    assert kind is not None, "the format was given what its `why_unsupported` refuses"
    return kind


def _is_held(tensor: Codebook) -> bool:
    """Tell whether a weight has the levels, the blocks and the scales of a data type."""
    kind, columns, scale = data_type_of(tensor.table), tensor.shape[1], tensor.scale
    if tensor.flat or kind is None:
        return False
    if isinstance(scale, Codebook):
        fits = scale.flat and (scale.bits, scale.group_size) == (8, NESTED_BLOCK)
        return kind != "int8" and tensor.group_size == BLOCK and fits and _is_float32(scale.scale)
    size = columns if kind == "int8" else BLOCK
    return _is_float32(scale) and tensor.group_size == size and columns % size == 0


def _is_float32(scale: Values) -> bool:
    return isinstance(scale, Tensor) and scale.dtype == torch.float32


def _packed_scales(scale: Values) -> dict[str, Tensor]:
    """Return the scales of blocks of 64 by their names behind the weight's."""
    if isinstance(scale, Tensor):
        return {"absmax": scale.flatten()}
    assert isinstance(scale, Codebook)
    assert isinstance(scale.scale, Tensor)
    return {
        "absmax": scale.codes.flatten(),
        "nested_absmax": scale.scale.flatten(),
        "nested_quant_map": scale.table,
    }


def _state(tensor: Codebook) -> dict[str, Any]:
    """Return what is no tensor, in the library's order."""
    state = {
        "quant_type": _kind(tensor),
        "blocksize": tensor.group_size,
        "dtype": dtype_name(tensor.dtype),
        "shape": list(tensor.shape),
    }
    if isinstance(tensor.scale, Tensor):
        return state
    nested = {"nested_blocksize": NESTED_BLOCK, "nested_dtype": "float32"}
    return {**state, **nested, "nested_offset": tensor.offset}


def _packed_text(values: Mapping[str, Any]) -> Tensor:
    return torch.tensor(list(json.dumps(values).encode()), dtype=torch.uint8)


FORMAT = BitsAndBytes()
