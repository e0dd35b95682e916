"""QLoRA: two thin matrices beside each frozen quantized linear, and only these are trained.

Dettmers et al. 2023, section 3; the matrices are those of LoRA (Hu et al. 2022, section 4.1):
y = W x + (alpha / rank) B A x, with A (rank, in) random and B (out, rank) zero at first.
"""

from typing import ClassVar, Literal

from pydantic import Field

from hubq.methods import Need
from hubq.methods.adapters import TrainedAdapter
from hubq.methods.adapters.branches.correction import Correction
from hubq.methods.adapters.branches.lora import Branch, beginning, seed_of, started
from hubq.methods.bitsandbytes import BitsAndBytes
from hubq.tensors import QuantizedTensor

STORED = 32  # bits of a number in the adapter's file


class QLoRA(TrainedAdapter):
    """LoRA on a frozen quantized base, with the settings of the study."""

    title: ClassVar[str] = "QLoRA"
    paper: ClassVar[str] = BitsAndBytes.paper  # which is of both
    bibtex: ClassVar[str] = BitsAndBytes.bibtex
    kind: ClassVar[type[Branch]] = Branch

    rank: int = Field(64, ge=1, description="rows of A and columns of B")
    alpha: float = Field(16, gt=0, description="what B A x is multiplied by, times the rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of A's inputs that is left out")
    start: Literal["zero", "low_rank"] = Field(
        "zero",
        description="B at first; low_rank: both matrices are the best correction of the "
        "quantization error on the calibration text",
    )

    @property
    def needs(self) -> frozenset[Need]:
        """The Gram matrices of the inputs, where it starts from a correction."""
        return frozenset({"gram"} if self.start == "low_rank" else ())

    def parameters(self, quantized: QuantizedTensor) -> int:
        """Count the entries of A and B."""
        return self.rank * sum(quantized.shape)

    def added_bits(self, quantized: QuantizedTensor) -> int:
        """Count those of A and B."""
        return STORED * self.rank * sum(quantized.shape)

    @property
    def scaling(self) -> float:
        """What B A x is multiplied by."""
        return self.alpha / self.rank

    def branch(
        self, name: str, shape: tuple[int, int], correction: Correction | None = None
    ) -> Branch:
        """Return what is trained beside a linear (out, in), perhaps begun from a correction."""
        matrices = beginning(name, shape, self.rank, self.seed)
        if correction is not None:
            matrices = started(matrices, correction, self.scaling)
        branch = self.kind(*matrices, self.scaling)
        branch.dropout, branch.seed = self.dropout, seed_of(name, self.seed)
        return branch

    def why_unsupported(self, quantized: QuantizedTensor) -> str | None:
        """Refuse linears whose inputs are rounded: rounding has no gradient."""
        bits = getattr(quantized, "activation_bits", None)
        if bits is None:
            return None
        return (
            f"its inputs are rounded to {bits} bits, and rounding has no gradient to train by; "
            "use a method that leaves activations in 16 bits"
        )
