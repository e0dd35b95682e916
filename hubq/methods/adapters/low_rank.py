"""Low-rank correction: the best thin matrices to add to a quantized linear, without training.

Of the error E = W - Q (out, in) and the Gram matrix H = C Cᵀ of the inputs, the first `rank`
singular values of E C give B A that lose least of the outputs: ||(E - B A) C||² is the sum of the
squares of the others (Eckart and Young 1936; on quantized models Liu et al. 2024, EoRA, and Zhang
et al. 2024, QERA).

With E C = U S Vᵀ that B A is Uᵣ Uᵣᵀ E: the error's projection on the directions of the outputs that
lose most. So C is never inverted, and inputs that no token used do no harm. Uᵣ are the first
eigenvectors of E H Eᵀ; of the other side's matrix, Cᵀ Eᵀ E C, where that is the smaller one. Each
pair of a column of B and a row of A shares its size evenly.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hubq.methods import Holds, Need
from hubq.methods.adapters import Adapter
from hubq.methods.adapters.branches.correction import Correction
from hubq.tensors import QuantizedTensor
from hubq.tensors.gram import output_energy


class LowRank(Adapter):
    """The best correction of the quantization error on the calibration text, in closed form."""

    title: ClassVar[str] = "low-rank correction"
    paper: ClassVar[str] = "https://arxiv.org/abs/2410.21271"
    bibtex: ClassVar[str] = """@article{liu2024eora,
  title = {{EoRA}: Training-free Compensation for Compressed {LLM} with Eigenspace Low-Rank
           Approximation},
  author = {Liu, Shih-Yang and Yang, Huck and Wang, Chien-Yi and Fung, Nai Chit and Yin, Hongxu and
            Sakr, Charbel and Muralidharan, Saurav and Cheng, Kwang-Ting and Kautz, Jan and
            Wang, Yu-Chiang Frank and Molchanov, Pavlo and Chen, Min-Hung},
  journal = {arXiv preprint arXiv:2410.21271},
  year = {2024}
}"""
    # In float64 the error, its product and what is decomposed; and the damped Gram matrix.
    holds: ClassVar[Holds] = Holds(weights=8, grams=3)
    tunes: ClassVar[bool] = False

    rank: int = Field(32, ge=1, description="rows of A and columns of B")
    damping: float = Field(
        0.01, gt=0, description="fraction of the mean diagonal that is added to the Gram matrix"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="of the numbers in the adapter's file"
    )

    @property
    def needs(self) -> frozenset[Need]:
        """The Gram matrices of the inputs."""
        return frozenset({"gram"})

    def parameters(self, quantized: QuantizedTensor) -> int:
        """Count the entries of A and B."""
        return self.rank * sum(quantized.shape)

    def added_bits(self, quantized: QuantizedTensor) -> int:
        """Count those of A and B."""
        return (32 if self.dtype == "float32" else 16) * self.parameters(quantized)

    def why_unsupported(self, quantized: QuantizedTensor) -> str | None:
        """Refuse linears whose inputs are rounded too."""
        if getattr(quantized, "activation_bits", None) is None:
            return None
        return (
            "this method rounds the inputs of linears too, and what that loses no correction of "
            "the weights brings back; use a method that rounds weights alone"
        )

    def correct(self, weight: Tensor, quantized: QuantizedTensor, gram: Tensor) -> Correction:
        """Return the correction of a weight (out, in) for inputs with a Gram matrix (in, in).

        Computed in float64, and rounded to the dtype of the file. The errors before and after are
        those of the outputs on the calibration tokens, relative to the outputs.
        """
        assert self.rank <= min(weight.shape), "plan refuses a rank that a linear hasn't"
        error = weight.double() - quantized.dequantize().to(weight.device)
        a, b = (
            each.to(getattr(torch, self.dtype)).float()
            for each in _pair(error, _damped(gram, self.damping), self.rank)
        )
        after = (error - b.double() @ a.double()).float()
        lost, left, whole = (
            float(output_energy(each, gram)) for each in (error.float(), after, weight.float())
        )
        relative = {"error_before": lost, "error_after": left}
        return Correction(a, b, {name: e / whole if whole else 0.0 for name, e in relative.items()})


def _damped(gram: Tensor, damping: float) -> Tensor:  # (in, in)
    """Return the Gram matrix in float64 with a fraction of its mean diagonal on the diagonal."""
    damped = gram.to(torch.float64, copy=True)
    diagonal = damped.diagonal()
    diagonal.add_(damping * diagonal.mean())
    return damped


def _pair(error: Tensor, gram: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return A (rank, in) and B (out, rank) for an error (out, in), the most important first."""
    left = _directions(error, gram, rank)
    peaks = left.gather(0, left.abs().argmax(0, keepdim=True))
    left = left * peaks.sign()  # LAPACK chooses either
    right = left.T @ error
    root = right.norm(dim=1).sqrt()
    return right / root.masked_fill(root == 0, 1)[:, None], left * root


def _directions(error: Tensor, gram: Tensor, rank: int) -> Tensor:
    """Return the orthonormal directions (out, rank) of the outputs that lose most."""
    out, columns = error.shape
    if out <= columns:
        return _first(error @ gram @ error.T, rank)
    seen = error @ _root(gram)
    found: Tensor = torch.linalg.qr(seen @ _first(seen.T @ seen, rank)).Q
    return found


def _first(energy: Tensor, rank: int) -> Tensor:  # (n, n)
    """Return the eigenvectors (n, rank) of the largest eigenvalues, these descending."""
    vectors: Tensor = torch.linalg.eigh(energy).eigenvectors
    return vectors[:, -rank:].flip(1)


def _root(gram: Tensor) -> Tensor:
    """Return a C with G = C Cᵀ, a triangle unless G is singular."""
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(gram)
    if failed:
        values, vectors = torch.linalg.eigh(gram)
        root = vectors * values.clamp(min=0).sqrt()
    return root
