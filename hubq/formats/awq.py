"""awq, version gemm: 4 bits, asymmetric, what gptqmodel, vLLM and SGLang load.

On disk, for a weight of shape (out, in): `qweight` int32 (in, out / 8), `qzeros` int32
(groups, out / 8) and `scales` (groups, out). A word holds eight neighbouring outputs in the order
that AWQ's kernel unpacks them: first the even ones, then the odd ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from hubq.formats import AffineFormat
from hubq.formats.foreign.awq import require
from hubq.formats.layouts.affine_scheme import difference, schemes, the_scheme
from hubq.runtime.pieces import in_pieces
from hubq.sources.vision import VisionFamily
from hubq.tensors import Affine, QuantizedTensor, packing

BITS = 4
GROUP_SIZES = (16, 32, 64, 128)  # those of gptqmodel's kernels; vLLM's are fewer
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the output, of eight, in each nibble of a word
BACK = (0, 4, 1, 5, 2, 6, 3, 7)  # the nibble of each output


class Awq(AffineFormat):
    """Asymmetric affine weights of 4 bits."""

    name: ClassVar[str] = "awq"
    loads_in: ClassVar[str] = "transformers with gptqmodel, vLLM, SGLang"

    def scale_dtype(self, model: torch.dtype) -> torch.dtype:
        """Return the model's 16-bit dtype, in which engines hold scales."""
        return torch.bfloat16 if model == torch.bfloat16 else torch.float16

    def why_layout_unsupported(self, tensor: Affine) -> str | None:
        """Refuse other widths, symmetric weights, and outputs that fill no whole words."""
        if refused := self.why_activations_unsupported(tensor):
            return refused
        if tensor.bits != BITS:
            return (
                f"awq files hold 4 bits, not {tensor.bits}; "
                "use bits: 4, or format: compressed-tensors"
            )
        if tensor.symmetric:
            return (
                "awq files hold a zero for each group; use symmetric: false, "
                "or format: gptq or compressed-tensors"
            )
        if refused := self.why_group_size_unsupported(tensor, GROUP_SIZES):
            return refused
        if tensor.shape[0] % len(ORDER):
            return (
                f"{tensor.shape[0]} outputs are not a multiple of 8, as awq files need; use "
                "format: compressed-tensors"
            )
        return None

    def why_unsupported_together(self, quantized: Mapping[str, QuantizedTensor]) -> str | None:
        """Refuse more than one group size: the config has a single one."""
        different = difference(schemes(quantized))
        if different is None:
            return None
        return f"awq files have one scheme: {different}; use format: compressed-tensors"

    def pack(self, module: str, tensor: QuantizedTensor) -> dict[str, Tensor]:
        """Pack outputs in the kernel's order."""
        assert isinstance(tensor, Affine)
        assert tensor.zero is not None
        return {
            f"{module}.qweight": _packed(tensor.codes.T),
            f"{module}.qzeros": _packed(tensor.zero.T),
            f"{module}.scales": tensor.scales.T.contiguous(),
        }

    def unpack(
        self, module: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]
    ) -> Affine:
        """Read one module back; also one that another writer packed."""
        require(module, tensors, config)
        qweight = tensors[f"{module}.qweight"]
        scales = tensors[f"{module}.scales"]
        columns, out = qweight.shape[0], scales.shape[1]
        size = config["group_size"]
        return Affine(
            codes=_unpacked(qweight, out).T.contiguous(),
            scale=scales.T.contiguous(),
            zero=_unpacked(tensors[f"{module}.qzeros"], out).T.contiguous(),
            bits=BITS,
            group_size=columns if size == -1 else size,
        )

    def config(
        self,
        quantized: Mapping[str, QuantizedTensor],
        kept: Sequence[str],
        sees: VisionFamily | None = None,
    ) -> dict[str, Any]:
        """Return what AutoAWQ's successors read; lm_head stays as it was without being named."""
        named = [module for module in kept if module != "lm_head"]
        if sees is not None:
            named += [*sees.unquantized, "lm_head"]
        return {
            "quant_method": "awq",
            "version": "gemm",
            "bits": BITS,
            "group_size": the_scheme(quantized).group_size,
            "zero_point": True,
            "modules_to_not_convert": named or None,
        }


def _packed(codes: Tensor) -> Tensor:  # (rows, 8n) uint8 -> (rows, n) int32
    """Pack each row in the kernel's order."""
    return in_pieces(
        lambda rows: packing.pack(_reordered(codes[rows], ORDER), BITS),
        (len(codes), packing.words(codes.shape[1], BITS)),
        codes.device,
        torch.int32,
    )


def _unpacked(packed: Tensor, count: int) -> Tensor:  # (rows, words) int32 -> (rows, count) uint8
    """Return the codes of rows that were packed so."""
    return in_pieces(
        lambda rows: _reordered(packing.unpack(packed[rows], BITS, count), BACK),
        (len(packed), count),
        packed.device,
        torch.uint8,
    )


def _reordered(codes: Tensor, order: Sequence[int]) -> Tensor:  # (rows, 8n)
    """Reorder each eight neighbouring columns."""
    rows, count = codes.shape
    return codes.reshape(rows, -1, len(order))[..., list(order)].reshape(rows, count)


FORMAT = Awq()
