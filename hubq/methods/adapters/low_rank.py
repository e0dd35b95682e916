"""Low-rank correction: the best thin matrices to add to a quantized linear, without training.

Of the error E = W - Q (out, in) and the Gram matrix H = C Cᵀ of the inputs, the first `rank`
singular values of E C give B A that lose least of the outputs: ||(E - B A) C||² is the sum of the
squares of the others (Eckart and Young 1936; on quantized models Liu et al. 2024, EoRA, and Zhang
et al. 2024, QERA).
"""

from typing import ClassVar, Literal

from pydantic import Field

from hubq.methods import Need
from hubq.methods.adapters import Adapter
from hubq.tensors import QuantizedTensor


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
