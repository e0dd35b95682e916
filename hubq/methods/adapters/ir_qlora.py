"""IR-QLoRA: QLoRA with an average of the inputs, and copies of what A gives, beside A and B.

Qin et al. 2024, section 3.3 (information elastic connection): with P (rank, in) the means of
neighbouring inputs and R (out, rank) copies to neighbouring outputs,
y = W x + (alpha / rank) (B + c R) (A + b P) x, where b and c are a learnt number each per linear.
That is LoRA again: A + b P and B + c R are what is stored. The paper's other half, a shift of each
block of NF4 by which its codes have the most entropy, is an option of the method `bitsandbytes`.
"""

from typing import ClassVar

from hubq.methods.adapters.branches.elastic import ElasticBranch
from hubq.methods.adapters.branches.lora import Branch
from hubq.methods.adapters.qlora import QLoRA
from hubq.tensors import QuantizedTensor


class IRQLoRA(QLoRA):
    """QLoRA with connections around A and B, which are folded into them at the end."""

    title: ClassVar[str] = "IR-QLoRA"
    paper: ClassVar[str] = "https://arxiv.org/abs/2402.05445"
    bibtex: ClassVar[str] = """@inproceedings{qin2024accurate,
  title = {Accurate {LoRA}-Finetuning Quantization of {LLM}s via Information Retention},
  author = {Qin, Haotong and Ma, Xudong and Zheng, Xingyu and Li, Xiaoyang and Zhang, Yang and
            Liu, Shouda and Luo, Jie and Liu, Xianglong and Magno, Michele},
  booktitle = {International Conference on Machine Learning},
  year = {2024}
}"""
    kind: ClassVar[type[Branch]] = ElasticBranch
    remark: ClassVar[str] = (
        "The connections of IR-QLoRA are folded into the adapter, which is a plain LoRA: they "
        "change how it is trained, not what it can express."
    )

    def parameters(self, quantized: QuantizedTensor) -> int:
        """Count the entries of A and B, and a number for each connection."""
        return super().parameters(quantized) + 2
