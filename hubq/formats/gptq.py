"""gptq, version 1, symmetric, groups in place: what gptqmodel, vLLM and SGLang load.

On disk, for a weight of shape (out, in): `qweight` int32 (words of a row, out), a dense stream
down each column; `qzeros` int32 (groups, words of a column), a dense stream along each row, that
holds each zero less one; `scales` float16 (groups, out); and `g_idx` int32 (in,), the group of
each input. Version 1's missing one makes engines disagree on asymmetric files (a stored -1 carries
into its neighbour), and vLLM refuses both those and a `g_idx` out of order: neither is written.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.formats import AffineFormat
from hubq.formats.foreign.gptq import read
from hubq.formats.layouts.affine_scheme import difference, schemes, the_scheme
from hubq.sources.vision import VisionFamily
from hubq.tensors import Affine, QuantizedTensor, packing

OLD_CONFIG = "quantize_config.json"  # where older engines look for the config
GROUP_SIZES = (16, 32, 64, 128, 256, 512, 1024)  # those of gptqmodel's kernels; vLLM's are fewer


class Gptq(AffineFormat):
    """Symmetric affine weights of 2, 3, 4 or 8 bits."""

    name: ClassVar[str] = "gptq"
    loads_in: ClassVar[str] = "transformers with gptqmodel and optimum, vLLM and SGLang (4, 8 bits)"

    def scale_dtype(self, model: torch.dtype) -> torch.dtype:
        """Return bfloat16 for such models: engines that run in it would round other scales."""
        return torch.bfloat16 if model == torch.bfloat16 else torch.float16

    def why_layout_unsupported(self, tensor: Affine) -> str | None:
        """Refuse asymmetric weights, sizes that fill no whole words, and scales beyond float16."""
        if refused := self.why_activations_unsupported(tensor):
            return refused
        if not tensor.symmetric:
            return (
                "vLLM and SGLang refuse asymmetric gptq files; use symmetric: true, "
                "or format: compressed-tensors, which holds them"
            )
        if tensor.bits not in (2, 3, 4, 8):
            return f"gptq files hold 2, 3, 4 or 8 bits, not {tensor.bits}; use one of these"
        if refused := self.why_group_size_unsupported(tensor, GROUP_SIZES):
            return refused
        for count, what in zip(tensor.shape, ("outputs", "inputs"), strict=True):
            if count * tensor.bits % packing.WORD_BITS:
                return (
                    f"{count} {what} of {tensor.bits} bits don't fill a whole number of 32-bit "
                    "words, as gptq files need; use format: compressed-tensors"
                )
        return _why_scale_unsupported(tensor.scales)

    def why_unsupported_together(self, quantized: Mapping[str, QuantizedTensor]) -> str | None:
        """Refuse more than one scheme: the config has a single width and group size."""
        different = difference(schemes(quantized))
        if different is None:
            return None
        return f"gptq files have one scheme: {different}; use format: compressed-tensors"

    def pack(self, module: str, tensor: QuantizedTensor) -> dict[str, Tensor]:
        """Pack columns densely; every zero is the middle of the range."""
        assert isinstance(tensor, Affine)
        if changed := _why_scale_unsupported(tensor.scales):
            raise UserError(f"{module}: {changed}")
        columns = tensor.shape[1]
        zeros = torch.full_like(tensor.scales.T, tensor.middle - 1, dtype=torch.uint8)
        order = torch.arange(columns, dtype=torch.int32, device=tensor.codes.device)
        return {
            f"{module}.qweight": packing.pack(tensor.codes, tensor.bits).T.contiguous(),
            f"{module}.qzeros": packing.pack(zeros, tensor.bits),
            f"{module}.scales": tensor.scales.T.to(torch.float16).contiguous(),
            f"{module}.g_idx": order // tensor.group_size,
        }

    def unpack(
        self, module: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]
    ) -> QuantizedTensor:
        """Read one module back, the scales as float16, the same numbers; any writer's is read."""
        return read(module, tensors, config)

    def config(
        self,
        quantized: Mapping[str, QuantizedTensor],
        kept: Sequence[str],
        sees: VisionFamily | None = None,
    ) -> dict[str, Any]:
        """Return what AutoGPTQ's successors read; nothing about the machine that quantized."""
        beyond = [module for module in kept if module != "lm_head"]
        if beyond:
            raise UserError(
                f"gptq files can't list linears that are not quantized, such as {beyond[0]}; use "
                "format: compressed-tensors"
            )
        scheme = the_scheme(quantized)
        return {
            "quant_method": "gptq",
            "bits": scheme.bits,
            "group_size": scheme.group_size,
            "sym": True,
            "desc_act": False,
            "lm_head": False,
            "checkpoint_format": "gptq",
            "pack_dtype": "int32",
            **(_beside_what_sees(sees) if sees is not None else {}),
        }

    def extra_files(self, config: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the config once more, for older engines."""
        return {OLD_CONFIG: (json.dumps(config, indent=2) + "\n").encode()}


def _beside_what_sees(sees: VisionFamily) -> dict[str, Any]:
    """Say where the quantized blocks are, as optimum asks, and what isn't, as others do."""
    return {
        "block_name_to_quantize": f"{sees.body}.layers",
        "dynamic": {f"-:.*{each}.*": {} for each in sees.sees},
    }


def _why_scale_unsupported(scale: Tensor) -> str | None:
    """Refuse scales that float16 would change; bfloat16 ones from 2^-17 to 65504 it keeps."""
    if scale.is_meta:
        return None
    changed = int((scale.to(torch.float16).to(scale.dtype) != scale).sum())
    if not changed:
        return None
    return (
        f"{changed} of {scale.numel()} scales are too small or too large for float16, which gptq "
        "files store; use format: compressed-tensors, or fewer bits"
    )


FORMAT = Gptq()
