"""The contract between the walk and a method: tensors in, tensors out.

A method is one file in this folder; the file's name is its name in a recipe, and the class's fields
are its options there. In comes a layer, which is a weight and what calibration showed of its
inputs; out goes a representation. It never sees a model, a path or a device, and may import
`hubq.tensors`, the records and the machine. bitsandbytes, an extra, is imported inside functions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, Protocol, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from hubq.errors import UserError, did_you_mean
from hubq.machine.engines import ElementType, engines
from hubq.machine.modules import class_in, files_in
from hubq.records.record import AsWritten
from hubq.tensors import PER_CHANNEL, Affine, Grid, QuantizedTensor

Need = Literal["gram", "magnitude", "sample"]
Writer = Literal["norm", "linear"]


@dataclass(frozen=True)
class Inputs:
    """What the walk gathered of the calibration tokens that reach a group of linears.

    Where they have weights, a token is as much of the sums and means as its weight says.
    """

    tokens: int
    gram: Tensor | None = (
        None  # (in, in) float32: sum over tokens of x xᵀ; GPTQ's Hessian is twice it
    )
    mean_magnitude: Tensor | None = None  # (in,) float32: mean over tokens of |x|
    max_magnitude: Tensor | None = None  # (in,) float32: max over tokens of |x|
    sample: Tensor | None = None  # (some tokens, in) float32: spread evenly over the tokens
    dtype: torch.dtype = torch.float32  # that the tokens had, beyond which nothing is known of them

    def scaled(self, factor: Tensor) -> "Inputs":  # (in,)
        """Return the statistics of x / factor."""
        return replace(
            self,
            gram=None if self.gram is None else self.gram / factor.outer(factor),
            mean_magnitude=None if self.mean_magnitude is None else self.mean_magnitude / factor,
            max_magnitude=None if self.max_magnitude is None else self.max_magnitude / factor,
            sample=None if self.sample is None else self.sample / factor,
        )


@dataclass(frozen=True)
class Layer:
    """One linear layer to quantize."""

    name: str  # the module's full name, such as model.layers.0.mlp.up_proj
    weight: Tensor  # (out, in) float32, or as it is stored for a method that takes it so
    inputs: Inputs
    scale_dtype: torch.dtype = torch.bfloat16  # what the file stores scales in
    seed: int = 0


@dataclass(frozen=True)
class Group:
    """The linear layers that share one input."""

    layers: tuple[Layer, ...]
    snap: Callable[[Tensor], Tensor] = lambda factor: factor  # to what the writer holds exactly
    others: tuple[Layer, ...] = ()  # that share the input too, and which another process solves

    @property
    def all_layers(self) -> tuple[Layer, ...]:
        """The layers that share the input, whoever solves them."""
        return self.layers + self.others

    @property
    def inputs(self) -> Inputs:
        """The statistics of the shared input."""
        return self.layers[0].inputs

    def scaled(self, factor: Tensor) -> "Group":  # (in,)
        """Return the group whose input is x / factor, so each weight's columns times it."""
        inputs = self.inputs.scaled(factor)
        return Group(
            tuple(replace(each, weight=each.weight * factor, inputs=inputs) for each in self.layers)
        )


class Tuning(Protocol):
    """A decoder block whose linears are quantized, for methods that go on to train them.

    All tensors are on one device; windows are named by their numbers, (some,) int64, and are as
    long as the longest of those asked for.
    """

    @property
    def quantized(self) -> Mapping[str, QuantizedTensor]:
        """What `quantize` chose, by the linears' full names."""

    @property
    def windows(self) -> int:
        """How many calibration windows there are."""

    def weight(self, name: str) -> Tensor:
        """Return a linear's weight before quantization, (out, in) float32."""

    def inputs(self, windows: Tensor) -> Tensor:
        """Return what the quantized blocks before feed this one, (windows, length, hidden)."""

    def targets(self, windows: Tensor) -> Tensor:
        """Return what this block puts out in the unquantized model, (windows, length, hidden)."""

    def entropy(self, windows: Tensor) -> Tensor:
        """Return that of each token's prediction by the unquantized model, (windows, length)."""

    def weights(self, windows: Tensor) -> Tensor | None:
        """Return how much each token counts, (windows, length); None: all alike."""

    def forward(self, inputs: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Run the block with other weights; differentiable by inputs and weights."""

    def epoch_done(self) -> None:
        """Show that one of the method's `tuning_epochs` is over."""


class Holds(NamedTuple):
    """What `quantize_group` holds at most on the device, beside the float32 weights of a group."""

    weights: float = 12  # float32 copies of a weight; the default is more than any method takes
    grams: int = 2  # float32 matrices as large as the inputs' Gram matrix, and that one
    block: float = 0  # float32 copies of 128 columns, which are rounded or fitted at a time
    together: bool = False  # whether the weights are those of a whole group


class Method(AsWritten, ABC):
    """A way to choose a quantized tensor for each linear layer."""

    title: ClassVar[str]
    paper: ClassVar[str]  # an address
    bibtex: ClassVar[str]
    # What its default options need; empty: no calibration data, no forward pass.
    needs: ClassVar[frozenset[Need]] = frozenset()
    # Before which kinds of modules `scale` is asked for factors.
    folds: ClassVar[frozenset[Writer]] = frozenset()
    element_type: ClassVar[ElementType] = "int"  # of weights, as engines have kernels for it
    takes_stored: ClassVar[bool] = False  # whether it takes weights in the dtype of their file
    tunes: ClassVar[bool] = False  # whether `tune` trains a block once it is quantized
    # Whether a row's result, of an Affine, depends on no other row of the group once it is scaled.
    rows_are_independent: ClassVar[bool] = False
    holds: ClassVar[Holds] = Holds()  # for the plan's estimate of memory, by default options

    @abstractmethod
    def sketch(self, shape: tuple[int, int], scale_dtype: torch.dtype) -> QuantizedTensor:
        """Return what `quantize` would for a weight of this shape, on the meta device."""

    @abstractmethod
    def quantize(self, layer: Layer) -> QuantizedTensor:
        """Choose the quantized tensor of one layer."""

    def quantize_group(self, group: Group) -> tuple[QuantizedTensor, ...]:
        """Quantize the layers of a group; a method that solves them together overrides this."""
        return tuple(self.quantize(layer) for layer in group.layers)

    def scale(self, group: Group) -> Tensor:
        """Return a factor for each input channel (in,), snapped, to fold into the writer."""
        raise NotImplementedError(f"{self.title} folds no scales")

    def tune(self, block: Tuning) -> Mapping[str, QuantizedTensor]:
        """Train a block's quantized linears, and return them all by name."""
        raise NotImplementedError(f"{self.title} tunes nothing")

    @property
    def needed(self) -> frozenset[Need]:
        """What these options need of the calibration data; empty: none, and no forward pass."""
        return self.needs

    @property
    def held(self) -> Holds:
        """What these options hold."""
        return self.holds

    @property
    def tuning_epochs(self) -> int:
        """How many times `tune` goes over the calibration windows."""
        return 0

    def why_unsupported(self, shape: tuple[int, int]) -> str | None:
        """Say why a weight of this (out, in) cannot be quantized so, or None."""
        return None

    @property
    def activation_bits(self) -> int | None:
        """The bits to which each token's inputs are rounded as they arrive; None: they are not."""
        return None

    def served_by(self, form: str) -> list[str]:
        """List the serving engines that compute with the result in a format, by their sources."""
        return engines(form, self.nominal_bits, self.activation_bits, self.element_type)

    @property
    def rounded_inputs(self) -> str:
        """Say to what inputs are rounded as they arrive; or nothing."""
        return "" if self.activation_bits is None else f"{self.activation_bits} bits per token"

    @property
    def variant(self) -> str:
        """What tells this setting from others of as many bits, in a repo's name; or nothing."""
        return ""

    @property
    def remark(self) -> str:
        """A sentence for the card, where something is left open or might mislead; or nothing."""
        return ""

    @property
    @abstractmethod
    def nominal_bits(self) -> float:
        """The bits a weight by which the paper calls this setting; the file takes more."""


class AffineMethod(Method):
    """A method whose result is an Affine tensor: codes with a scale and a zero a group."""

    bits: Literal[2, 3, 4, 8] = Field(4, description="width of each code")
    group_size: int = Field(128, description="input columns that share a scale; -1: a whole row")
    symmetric: bool = Field(False, description="fix the zero in the middle of the range")
    activations: Literal[16, 8] = Field(
        16, description="bits to which each token's inputs are rounded as they arrive"
    )

    @field_validator("group_size")
    @classmethod
    def _a_size(cls, value: int) -> int:
        if value < 1 and value != PER_CHANNEL:
            raise ValueError(f"must be positive, or -1 for a whole row; you wrote {value}")
        return value

    @model_validator(mode="after")
    def _with_kernels(self) -> Self:
        if self.activations == 8 and not self.symmetric:
            raise ValueError("activations: 8 has kernels for symmetric: true alone")
        if self.activations == 8 == self.bits and self.group_size != PER_CHANNEL:
            raise ValueError("activations: 8 beside bits: 8 has kernels for group_size: -1 alone")
        return self

    @property
    def nominal_bits(self) -> float:
        """The width of the codes."""
        return float(self.bits)

    @property
    def activation_bits(self) -> int | None:
        """The width of inputs, unless they are left alone."""
        return None if self.activations == 16 else self.activations

    def with_inputs(self, tensor: Affine) -> Affine:
        """Return a tensor that says to what its inputs are rounded."""
        return replace(tensor, activation_bits=self.activation_bits)

    def grid(self, scale_dtype: torch.dtype) -> Grid:
        """Return the options as a grid."""
        return Grid(self.bits, self.group_size, self.symmetric, scale_dtype)

    def sketch(self, shape: tuple[int, int], scale_dtype: torch.dtype) -> Affine:
        """Return the affine tensor without data."""
        return self.with_inputs(Affine.sketch(shape, self.grid(scale_dtype)))

    def why_unsupported(self, shape: tuple[int, int]) -> str | None:
        """Refuse a group size that leaves a ragged group, and say which sizes fit."""
        if self.group_size == PER_CHANNEL:
            return None
        return ragged(self.group_size, shape[1], "-1 (a whole row)")


def ragged(group_size: int, columns: int, *others: str) -> str | None:
    """Say that a group size leaves a ragged group and what fits: sizes, or the others; or None."""
    if columns % group_size == 0:
        return None
    fitting = [str(size) for size in (32, 64, 128, 256) if columns % size == 0]
    way_out = " or ".join([*fitting, *others]) or "a divisor"
    return f"group_size {group_size} does not divide {columns} inputs; use {way_out}"


def methods() -> list[str]:
    """List the names of the methods: the files in hubq/methods, without its folders."""
    return files_in(__path__)


def method_class(name: str) -> type[Method]:
    """Return the method class of a name; raise UserError for an unknown one."""
    if name not in methods():
        raise UserError(f"no method is called {name}; {did_you_mean(name, methods())}")
    return class_in(f"{__name__}.{name}", Method)  # type: ignore[type-abstract] # only compared
