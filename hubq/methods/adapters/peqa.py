"""PEQA: the scales of a quantized model are trained, its codes and zeros stay.

Kim et al. 2023, section 3: w = s (q - z), where s alone learns. The result is a quantized model
like the one before, of the same size, that any reader of its format loads. How scales are trained,
and what the learning rate means, is said in `hubq/methods/adapters/branches/scales.py`.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from hubq.methods.adapters import TrainedAdapter
from hubq.records.adaptation import Makes
from hubq.tensors import Affine, QuantizedTensor


class PEQA(TrainedAdapter):
    """Training of the scales alone; the result is a full checkpoint of the recipe's format."""

    title: ClassVar[str] = "PEQA"
    paper: ClassVar[str] = "https://arxiv.org/abs/2305.14152"
    bibtex: ClassVar[str] = """@inproceedings{kim2023memory,
  title = {Memory-Efficient Fine-Tuning of Compressed Large Language Models via sub-4-bit Integer
           Quantization},
  author = {Kim, Jeonghoon and Lee, Jung Hyun and Kim, Sungdong and Park, Joonsuk and
            Yoo, Kang Min and Kwon, Se Jung and Lee, Dongsoo},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023}
}"""
    makes: ClassVar[Makes] = "checkpoint"

    learning_rate: float = Field(2e-5, gt=0, description="after the warm-up, constant")

    def parameters(self, quantized: QuantizedTensor) -> int:
        """Count the scales."""
        assert isinstance(quantized, Affine), "why_unsupported refuses others"
        return quantized.scales.numel()

    def added_bits(self, quantized: QuantizedTensor) -> int:
        """Count none: the scales are where they were."""
        return 0

    def why_unsupported(self, quantized: QuantizedTensor) -> str | None:
        """Refuse what has no plain scales, such as codebooks and signs, and inputs that round."""
        if isinstance(quantized, Affine) and isinstance(quantized.scale, Tensor):
            if quantized.activation_bits is None:
                return None
            return (
                "PEQA trains the scales of weights alone, and readers of this method's files round "
                "inputs too, which no gradient passes; use rtn, gptq or awq"
            )
        return (
            "PEQA trains the scales of integers with a scale a group, and this method stores "
            "other things; use rtn, gptq or awq"
        )
