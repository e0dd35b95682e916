"""What PB-LLM and BiLLM share: groups of columns made binary one after another, and again."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from hubq.method import Group, Method, Need
from hubq.solver import Hessian, prepare


class BinaryMethod(Method):
    """A method that solves whole groups of columns in the order of their energy."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gram"})

    group_size: int = Field(128, ge=1, description="input columns that share means and scales")
    scale_bits: int = Field(
        6, ge=2, le=8, description="of each scale and mean, under one 16-bit scale a row"
    )
    rounds: int = Field(
        1, ge=0, description="how often levels and codes are fitted again, each to the others"
    )
    damping: float = Field(0.01, gt=0, description="of the mean diagonal, added to the Hessian")

    def prepared(self, group: Group) -> tuple[Hessian, Tensor]:
        """Return the Hessian that all layers share, and the damped Gram matrix in its order."""
        hessian = prepare(
            group.inputs,
            self.damping,
            group.layers[0].name,
            activation_order=True,
            together=self.group_size,
        )
        return hessian, hessian.gram(group.inputs, self.damping)
