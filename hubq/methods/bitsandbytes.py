"""bitsandbytes: NF4, FP4 and LLM.int8(), by the library itself.

NF4 (Dettmers et al. 2023, section 3) has 16 levels at quantiles of a normal distribution, FP4 those
of a float of 4 bits; blocks of 64 neighbouring weights share the greatest magnitude among them as
their scale. Double quantization stores these scales in 8 bits, less their mean, by the levels of
Dettmers et al. 2021, in blocks of 256 that take no notice of rows. INT8 (Dettmers et al. 2022)
rounds each row to multiples of its greatest magnitude / 127; readers then round each token's inputs
too, save those beyond 6.

With a shift (information calibration quantization: Qin et al. 2024, section 3.2) each block of NF4
has something taken off before it is scaled, and w = level * scale + shift. It is the block's median
plus a share of the greatest distance from it, at most a tenth of sigma either way, by which the
block's codes have the most entropy: of 201 candidates, as many as the authors tried when they
trained, and of no shift at all. Shifts are stored as scales are. Entropy is not error. No kernel of
the library knows shifts, so only the hubq format has them.

The library's functions are called on one weight at a time, so a file holds the very integers that
`save_pretrained` of a model in bitsandbytes would have written. No module of the library is ever
made, and none runs forward: version 0.50.2 repacks 4-bit weights at their first forward pass on
processors with AVX512-BF16, and what is saved after that is corrupt.
"""

import logging
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hubq.errors import UserError
from hubq.machine.engines import missing_packages
from hubq.methods import Holds, Layer, Method
from hubq.records.number_format import number
from hubq.runtime.formulas import by_group
from hubq.runtime.pieces import row_pieces
from hubq.tensors import Codebook, Values, values
from hubq.tensors.codebook import levels
from hubq.tensors.kernels.code_entropy import most_even_shift

BLOCK = 64  # weights that share a scale in NF4 and FP4
SCALE_BLOCK = 256  # scales of NF4 and FP4 that share one in their turn
ROWS = 32  # the fast path of processors with AVX512-BF16 wants a multiple of them
WAY_OUT = "pip install 'hubq[bitsandbytes]'"
SKETCHED_MEAN = 0.1234567890123456  # of scales: files hold it in about so many decimals
STEPS = 100  # to either side of the median, in which a shift is looked for
SIGMA = 1 / 1.848  # of a normal distribution, by the greatest of a block of its values
SHARE = 0.1  # of sigma: how far from the median shifts go
TINY = 1e-38  # by which a block without a scale is divided, as the library does


class BitsAndBytes(Method):
    """NF4, FP4 or INT8 as the library rounds to them. Needs no calibration data."""

    title: ClassVar[str] = "bitsandbytes"
    paper: ClassVar[str] = "https://arxiv.org/abs/2305.14314"
    bibtex: ClassVar[str] = """@inproceedings{dettmers2023qlora,
  title = {{QLoRA}: Efficient Finetuning of Quantized {LLM}s},
  author = {Dettmers, Tim and Pagnoni, Artidoro and Holtzman, Ari and Zettlemoyer, Luke},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023}
}"""
    holds: ClassVar[Holds] = Holds(weights=2.75, grams=0)

    takes_stored: ClassVar[bool] = True

    data_type: Literal["nf4", "fp4", "int8"] = Field("nf4", description="data type of the weights")
    double_quantization: bool = Field(
        True, description="store the scales of nf4 and fp4 in 8 bits instead of 32"
    )
    shift: bool = Field(
        False,
        description="take the shift off each block by which its codes have the most entropy "
        "(nf4 only; held by the hubq format alone)",
    )

    @model_validator(mode="after")
    def _has_block_scales(self) -> "BitsAndBytes":
        if self.data_type == "int8" and not self.double_quantization:
            raise ValueError("int8 has no block scales to quantize; leave double_quantization out")
        if self.data_type != "nf4" and self.shift:
            raise ValueError("only blocks of nf4 can have a shift; leave shift out")
        return self

    @property
    def variant(self) -> str:
        """FP4 or, with shifts, ICQ (information calibration quantization)."""
        return "ICQ" if self.shift else {"fp4": "FP4"}.get(self.data_type, "")

    @property
    def remark(self) -> str:
        """Say what shifts cost, and what they are not."""
        if not self.shift:
            return ""
        bits = 8 / BLOCK + 32 / (BLOCK * SCALE_BLOCK) if self.double_quantization else 32 / BLOCK
        return (
            f"Each block of {BLOCK} weights has a shift, which takes {number(bits)} bits a weight "
            "more than plain NF4. It was chosen for the entropy of the codes, and that is not the "
            "error: the result may be better or worse than NF4's."
        )

    @property
    def nominal_bits(self) -> float:
        """The width of the codes."""
        return 8.0 if self.data_type == "int8" else 4.0

    def why_unsupported(self, shape: tuple[int, int]) -> str | None:
        """Refuse shapes that the library's kernels fail on, and a machine without the library."""
        if missing := missing_packages("bitsandbytes"):
            return f"{missing[0]} is not installed: {WAY_OUT}"
        out, columns = shape
        if self.data_type == "int8" or self.shift:  # which no kernel computes with
            return None
        for count, what, unit in ((out, "outputs", ROWS), (columns, "inputs", BLOCK)):
            if count % unit:
                return (
                    f"bitsandbytes computes with {self.data_type} weights only if {unit} divides "
                    f"the {what}, but there are {count}; use data_type: int8"
                )
        return None

    def sketch(self, shape: tuple[int, int], scale_dtype: torch.dtype) -> Codebook:
        """Return the codebook tensor without data; only the levels are real."""
        out, columns = shape
        codes = torch.empty(shape, dtype=torch.uint8, device="meta")
        if self.data_type == "int8":
            return self._rows(codes, torch.empty(out, device="meta"), scale_dtype)
        scale = torch.empty(out, -(-columns // BLOCK), device="meta")
        if not self.double_quantization:
            return self._blocks(codes, scale, 0.0, scale_dtype, scale if self.shift else None)
        table, blocks = scale.new_empty(256), -(-scale.numel() // SCALE_BLOCK)
        nested = _in_eight_bits(scale.to(torch.uint8), table, scale.new_empty(blocks))
        shift = nested if self.shift else None
        return self._blocks(codes, nested, SKETCHED_MEAN, scale_dtype, shift)

    def quantize(self, layer: Layer) -> Codebook:
        """Let the library round one weight."""
        library = _library()
        if self.data_type == "int8":
            # The library takes weights in float16, and goes on in float32.
            integers, greatest, _ = library.int8_vectorwise_quant(layer.weight.half())
            return self._rows(integers.view(torch.uint8) + 128, greatest, layer.scale_dtype)
        shift = self._stored(_shifts(layer.weight)) if self.shift else None
        if shift is None:
            codes, scale = self._rounded(layer.weight)
        else:
            codes, scale = _rounded_beside(layer.weight, values(shift))
        mean = float(scale.mean()) if self.double_quantization else 0.0
        return self._blocks(codes, self._stored(scale - mean), mean, layer.scale_dtype, shift)

    def _rounded(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Let the library choose the codes (out, in) and the scales (out, groups) of blocks."""
        codes = torch.empty(weight.shape, dtype=torch.uint8, device=weight.device)
        scale = torch.empty(len(codes), codes.shape[1] // BLOCK, device=weight.device)
        for rows in row_pieces(weight.shape, weight.device):
            packed, state = _library().quantize_4bit(
                weight[rows].float().contiguous(), blocksize=BLOCK, quant_type=self.data_type
            )
            codes[rows] = torch.cat((packed >> 4, packed & 15), 1).view(codes[rows].shape)
            scale[rows] = state.absmax.view(scale[rows].shape)
        return codes, scale

    def _stored(self, of_blocks: Tensor) -> Values:  # (out, groups)
        """Return scales or shifts as they are stored: by the library in 8 bits, or as they are."""
        if not self.double_quantization:
            return of_blocks
        codes, state = _library().quantize_blockwise(of_blocks, blocksize=SCALE_BLOCK)
        return _in_eight_bits(codes, state.code, state.absmax)

    def _rows(self, codes: Tensor, greatest: Tensor, dtype: torch.dtype) -> Codebook:
        """Return int8 weights: the greatest magnitude of each row (out,) stands for 127."""
        table, width = _table("int8", codes), codes.shape[1]
        return Codebook(codes, table, greatest[:, None], 8, width, implied=True, dtype=dtype)

    def _blocks(
        self, codes: Tensor, scale: Values, mean: float, dtype: torch.dtype, shift: Values | None
    ) -> Codebook:
        table = _table(self.data_type, codes)
        return Codebook(codes, table, scale, 4, BLOCK, offset=mean, shift=shift, dtype=dtype)


def _table(data_type: str, codes: Tensor) -> Tensor:
    """Return the levels where the codes are; those of a sketch have data."""
    table = levels(data_type)
    return table if codes.is_meta else table.to(codes.device)


def _in_eight_bits(codes: Tensor, table: Tensor, greatest: Tensor) -> Codebook:
    """Return doubly quantized scales (out, groups), less their mean, or shifts."""
    return Codebook(codes, table, greatest[None], 8, SCALE_BLOCK, flat=True)


def _shifts(weight: Tensor) -> Tensor:  # (out, in) -> (out, groups)
    """Return the shift of each block by which its codes have the most entropy."""
    factors = (torch.arange(-STEPS, STEPS + 1) * (SHARE * SIGMA / STEPS)).to(weight.device)
    middles = _middles(weight.device)
    shift = torch.empty(len(weight), -(-weight.shape[1] // BLOCK), device=weight.device)
    for rows in row_pieces(weight.shape, weight.device):
        for part, which in by_group(weight[rows].float(), BLOCK):
            shift[rows, which] = most_even_shift(part, middles, factors)
    return shift


def _rounded_beside(weight: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes (out, in) and the scales (out, groups) of what shifts leave over."""
    codes = torch.empty(weight.shape, dtype=torch.uint8, device=weight.device)
    scale, middles = torch.empty_like(shift), _middles(weight.device)
    for rows in row_pieces(weight.shape, weight.device):
        rest = weight[rows].to(torch.float32, copy=True)
        for part, which in by_group(rest, BLOCK):
            part -= shift[rows, which, None]
            scale[rows, which] = part.abs().amax(2)
            part /= scale[rows, which, None].clamp(min=TINY)
        codes[rows] = torch.bucketize(rest, middles, out_int32=True).to(torch.uint8)
    return codes, scale


def _middles(device: torch.device) -> Tensor:  # (15,)
    """Return what lies between neighbouring levels of NF4, as the library has it."""
    table = levels("nf4").to(device)
    return (table[1:] + table[:-1]) / 2


def _library() -> Any:  # noqa: ANN401 - a module
    """Import the library, which takes seconds: so late, and only for this."""
    # What it logs is that a faster kernel would be another package; nothing is multiplied here.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        from bitsandbytes import functional
    except ImportError as error:
        raise UserError(f"bitsandbytes can't be imported ({error}): {WAY_OUT}") from error
    return functional
