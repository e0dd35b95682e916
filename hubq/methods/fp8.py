"""FP8: weights, and by default activations, as floats of 8 bits.

Micikevicius et al. 2022. An e4m3 has about two decimals whatever its size, so that plain rounding
loses next to nothing, and neither clipping nor another scale wins any of that back. A scale is the
greatest magnitude over 448, of each output channel or of each block of 128 x 128, as DeepSeek-V3
has it (section 3.3). Engines round inputs as they arrive: each token by its own greatest magnitude,
beside blocks each 128 inputs of it, or all by the greatest that the calibration text has shown.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hubq.machine.engines import ElementType
from hubq.methods import Holds, Inputs, Layer
from hubq.methods.solvers.floats import FloatMethod
from hubq.tensors import SMALLEST_SCALE, Floating
from hubq.tensors.floating import E4M3, GREATEST

BLOCK = 128
LARGEST = GREATEST[E4M3]


class FP8(FloatMethod):
    """Round to floats of 8 bits, which loses next to nothing; inputs too, as they arrive."""

    title: ClassVar[str] = "FP8"
    element_type: ClassVar[ElementType] = "fp8"
    holds: ClassVar[Holds] = Holds(weights=3.2, grams=0)
    with_feedback: ClassVar[Holds] = Holds(weights=6.7)
    paper: ClassVar[str] = "https://arxiv.org/abs/2209.05433"
    bibtex: ClassVar[str] = """@misc{micikevicius2022fp8,
  title = {{FP8} Formats for Deep Learning},
  author = {Micikevicius, Paulius and Stosic, Dusan and Burgess, Neil and others},
  year = {2022},
  eprint = {2209.05433},
  archivePrefix = {arXiv}
}"""

    scales: Literal["channel", "block"] = Field(
        "channel", description="what has a scale: an output channel, or a block of 128 x 128"
    )
    activations: Literal["dynamic", "static", "none"] = Field(
        "dynamic",
        description="whether inputs are rounded to FP8 too: by what arrives, by a scale from "
        "calibration, or not at all",
    )

    @model_validator(mode="after")
    def _together(self) -> "FP8":
        if self.scales == "block" and self.activations != "dynamic":
            raise ValueError("scales: block has kernels for activations: dynamic alone")
        return self

    @property
    def nominal_bits(self) -> float:
        """The width of an element."""
        return 8.0

    @property
    def activation_bits(self) -> int | None:
        """The width of inputs, unless they are left alone."""
        return None if self.activations == "none" else 8

    @property
    def rounded_inputs(self) -> str:
        """Say to what inputs are rounded as they arrive; or nothing."""
        per = {"channel": "per token", "block": f"per {BLOCK} inputs of a token"}[self.scales]
        static = "by one scale from calibration"
        found = {"dynamic": per, "static": static}.get(self.activations)
        return "" if found is None else f"8-bit floats {found}"

    @property
    def calibrates_inputs(self) -> bool:
        """Whether inputs have one scale for all."""
        return self.activations == "static"

    def why_unsupported(self, shape: tuple[int, int]) -> str | None:
        """Refuse blocks of which a row's last would be cut off: kernels want whole ones."""
        if self.scales == "channel" or shape[1] % BLOCK == 0:
            return None
        return f"blocks of {BLOCK} do not divide {shape[1]} inputs; use scales: channel"

    def sketch(self, shape: tuple[int, int], scale_dtype: torch.dtype) -> Floating:
        """Return the floats without data."""
        return self._of(shape, scale_dtype, torch.device("meta"), Inputs(tokens=0))

    def scaled(self, layer: Layer, energy: Tensor | None, shared: Floating | None) -> Floating:
        """Let the greatest of each row or block be the greatest float."""
        found = self._of(
            (len(layer.weight), layer.weight.shape[1]),
            layer.scale_dtype,
            layer.weight.device,
            layer.inputs,
        )
        found.scale.copy_(_greatest(layer.weight, found.block).div_(LARGEST).clamp_(SMALLEST_SCALE))
        return found

    def _of(
        self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device, inputs: Inputs
    ) -> Floating:
        out, columns = shape
        block = (1, columns) if self.scales == "channel" else (BLOCK, BLOCK)
        counts = (-(-out // block[0]), -(-columns // block[1]))
        input_scale = None
        if self.calibrates_inputs:
            input_scale = torch.ones(1, dtype=dtype, device=device)
            if inputs.max_magnitude is not None:
                input_scale *= (inputs.max_magnitude.max() / LARGEST).clamp_(SMALLEST_SCALE)
        return Floating(
            torch.empty(shape, dtype=E4M3, device=device),
            torch.empty(counts, dtype=dtype, device=device),
            block,
            rounds_inputs=self.activations != "none",
            input_scale=input_scale,
        )


def _greatest(weight: Tensor, block: tuple[int, int]) -> Tensor:  # (row blocks, column blocks)
    """Return the greatest magnitude of each block, in float32."""
    if block[0] == 1:
        return torch.maximum(weight.amax(1), -weight.amin(1)).float()[:, None]
    rows = [part.abs() for part in torch.split(weight, block[0])]
    return torch.stack([part.amax(0).view(-1, block[1]).amax(1).float() for part in rows])
