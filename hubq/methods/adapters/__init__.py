"""The contract between the stage `adapt` and an adapter: what is trained or added, and of what.

An adapter is one file in this folder; the file's name is its name in a recipe, and the class's
fields are its options there. In comes a quantized linear, out goes what stands in its place while
it is trained, or a correction of it. It never sees a model, a path or a device, and may import
what methods may.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from pydantic import Field

from hubq.errors import UserError, did_you_mean
from hubq.machine.modules import class_in, files_in
from hubq.methods import Need
from hubq.records.adaptation import Makes
from hubq.records.recipe_adapt import Lessons
from hubq.records.record import AsWritten
from hubq.tensors import QuantizedTensor


class Adapter(AsWritten, ABC):
    """A way to make a quantized model better, by training or in closed form."""

    title: ClassVar[str]
    paper: ClassVar[str]  # an address
    bibtex: ClassVar[str]
    makes: ClassVar[Makes] = "adapter"
    remark: ClassVar[str] = ""  # a sentence for the card

    merge: Literal[False, True, "requantized"] = Field(
        False,
        description="publish the adapted model whole: true: in 16 bits, requantized: by the "
        "recipe's method again",
    )

    @property
    def needs(self) -> frozenset[Need]:
        """What it takes of the calibration text; empty: none is read."""
        return frozenset()

    @abstractmethod
    def parameters(self, quantized: QuantizedTensor) -> int:
        """Count what is trained or added of a linear, which may be a sketch."""

    @abstractmethod
    def added_bits(self, quantized: QuantizedTensor) -> int:
        """Count the bits that the result stores of a linear beyond the quantized one's."""

    def why_unsupported(self, quantized: QuantizedTensor) -> str | None:
        """Say why a linear, which may be a sketch, can't be adapted so; None: it can."""
        return None


class TrainedAdapter(Adapter, Lessons):
    """An adapter that learns from instruction pairs by gradient descent (AdamW)."""

    steps: int = Field(10_000, ge=1, description="updates of the parameters")
    batch_size: int = Field(16, ge=1, description="pairs an update")
    at_once: int | None = Field(
        None, ge=1, description="pairs that run through the model at once; default: all of a batch"
    )
    learning_rate: float = Field(2e-4, gt=0, description="after the warm-up, constant")
    warmup: float = Field(
        0.03, ge=0, le=1, description="share of the steps in which the rate grows"
    )
    weight_decay: float = Field(0.0, ge=0)
    greatest_gradient: float = Field(
        0.3, gt=0, description="norm of all gradients together, above which they are scaled down"
    )


def adapters() -> list[str]:
    """List the names of the adapters: the files in hubq/methods/adapters, without its folders."""
    return files_in(__path__)


def adapter_class(name: str) -> type[Adapter]:
    """Return the adapter class of a name; raise UserError for an unknown one."""
    if name not in adapters():
        raise UserError(f"no adapter is called {name}; {did_you_mean(name, adapters())}")
    return class_in(f"{__name__}.{name}", Adapter)  # type: ignore[type-abstract] # only compared
