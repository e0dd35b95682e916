"""The contract of an on-disk format: which tensors it holds, and how they lie in safetensors.

A format is one file in this folder, with a `FORMAT`. In come representations, out go a file's
tensors by name and a quantization_config, and back; the contract doesn't know who implements it. It
may import `hubq.tensors` and what these may; methods and formats don't know one another.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, dtype

from hubq.errors import UserError, did_you_mean
from hubq.machine.modules import files_in
from hubq.sources.vision import VisionFamily
from hubq.tensors import Affine, QuantizedTensor

Embedding = Literal["embed_tokens", "lm_head"]


class Format(ABC):
    """A layout that engines load; it packs meta tensors too, so that plans can count bytes."""

    name: ClassVar[str]
    loads_in: ClassVar[str]  # the engines, for people
    remark: ClassVar[str] = ""  # a sentence for the card, where a reader might be misled

    @abstractmethod
    def scale_dtype(self, model: dtype) -> dtype:
        """Return the dtype that methods choose scales in, for weights of a model's dtype."""

    @abstractmethod
    def why_unsupported(self, tensor: QuantizedTensor) -> str | None:
        """Say why the format can't hold this tensor, and which way out there is; or None."""

    def has_room(self, tensor: QuantizedTensor) -> bool:
        """Tell whether tensors of this kind have a place in the format at all."""
        return True

    @abstractmethod
    def pack(self, module: str, tensor: QuantizedTensor) -> dict[str, Tensor]:
        """Return the file's tensors for a module, by full name."""

    @abstractmethod
    def unpack(
        self, module: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]
    ) -> QuantizedTensor:
        """Return what was packed, bit for bit; `config` is the repo's quantization_config."""

    @abstractmethod
    def config(
        self,
        quantized: Mapping[str, QuantizedTensor],
        kept: Sequence[str],
        sees: VisionFamily | None = None,
    ) -> dict[str, Any]:
        """Return the quantization_config for config.json.

        `quantized` maps module names to tensors (data or meta); `kept` names the linears left as
        they were. Of a model that sees only the language part is quantized, and the names are
        those of modules in memory: the config says that what sees is not, so that readers of other
        names (older and other programs) understand it too.
        """

    def why_unsupported_together(self, quantized: Mapping[str, QuantizedTensor]) -> str | None:
        """Say why one file can't hold these tensors together, and which way out there is; or None.

        `quantized` maps module names to tensors (data or meta), as for `config`.
        """
        return None

    def embeddings(self, tied: bool) -> frozenset[Embedding]:
        """Return which of the two the format's readers take quantized; tied, they are one."""
        return frozenset()

    def why_embeddings_unsupported(self, tied: bool) -> str | None:
        """Say why a recipe can't have its embeddings quantized, or None."""
        if self.embeddings(tied):
            return None
        if self.embeddings(tied=False):
            return (
                f"{self.name} can hold a quantized lm_head only if it is not tied to the "
                "embeddings, which no reader accepts packed; use embeddings: 16"
            )
        return f"{self.name} keeps embeddings and lm_head in 16 bits; use embeddings: 16"

    def kv_cache_settings(self) -> dict[str, Any] | None:
        """Return what the config says of keys and values in FP8; None: files can't hold that."""
        return None

    def config_additions(self, sees: VisionFamily | None = None) -> dict[str, Any]:
        """Return further keys of config.json, beside its quantization_config."""
        return {}

    def extra_files(self, config: Mapping[str, Any]) -> dict[str, bytes]:
        """Return further files that the format's readers look for, by name in the repo."""
        return {}


class AffineFormat(Format):
    """A format that holds affine weights in groups of equal size."""

    def has_room(self, tensor: QuantizedTensor) -> bool:
        """Tell whether a tensor is affine, with plain scales."""
        return isinstance(tensor, Affine) and isinstance(tensor.scale, Tensor)

    def why_unsupported(self, tensor: QuantizedTensor) -> str | None:
        """Refuse what isn't affine, a ragged last group, and what the layout can't hold."""
        if not isinstance(tensor, Affine) or not isinstance(tensor.scale, Tensor):
            kind = (
                "quantized scales"
                if isinstance(tensor, Affine)
                else f"{type(tensor).__name__} weights"
            )
            return (
                f"{self.name} holds affine weights with plain scales only, but "
                f"this method makes {kind}"
            )
        columns = tensor.shape[1]
        if columns % tensor.group_size:
            return (
                f"readers of {self.name} can't read a shorter last group, and "
                f"{tensor.group_size} does not divide {columns} inputs; use a group_size that "
                "does, or -1 (a whole row)"
            )
        return self.why_layout_unsupported(tensor)

    def why_group_size_unsupported(self, tensor: Affine, known: Sequence[int]) -> str | None:
        """Refuse groups of a size that no kernel of the format's readers has."""
        if tensor.group_size in known or tensor.group_size == tensor.shape[1]:
            return None
        return (
            f"readers of {self.name} have no kernel for groups of {tensor.group_size}; "
            f"use group_size {', '.join(map(str, known))} or -1 (a whole row)"
        )

    def why_activations_unsupported(self, tensor: Affine) -> str | None:
        """Refuse rounded activations, in a format whose files can't ask readers for them."""
        if tensor.activation_bits is None:
            return None
        return (
            f"{self.name} files cannot say that activations are rounded to "
            f"{tensor.activation_bits} bits: readers would leave them in 16; "
            "use format: compressed-tensors"
        )

    @abstractmethod
    def why_layout_unsupported(self, tensor: Affine) -> str | None:
        """Say why the layout can't hold an affine tensor of equal groups, or None."""


def refusal_of(form: Format, tensor: QuantizedTensor) -> str | None:
    """Say why a format can't hold a tensor, and which formats do where it has no room; or None."""
    reason = form.why_unsupported(tensor)
    if reason is None or form.has_room(tensor):
        return reason
    return f"{reason}; use format: {' or '.join(_holders(tensor))}"


def _holders(tensor: QuantizedTensor) -> list[str]:
    """Name the formats that hold a tensor; a copy in 16 bits comes last."""
    found = map(format_named, sorted(formats(), key=lambda name: (name == "dense", name)))
    return [form.name for form in found if form.why_unsupported(tensor) is None]


def formats() -> list[str]:
    """List the names of the formats: the files in hubq/formats, spelled with hyphens."""
    return sorted(name.replace("_", "-") for name in files_in(__path__))


def format_named(name: str) -> Format:
    """Return the format of a name; raise UserError for an unknown one."""
    if name not in formats():
        raise UserError(f"no format is called {name}; {did_you_mean(name, formats())}")
    module = import_module(f"hubq.formats.{name.replace('-', '_')}")
    form: Format = module.FORMAT
    return form


def scale_dtype(model: str, form: Format) -> torch.dtype:
    """Return the dtype of scales: the format's choice for the model's; float32 counts as bf16."""
    return form.scale_dtype(torch.float16 if model == "float16" else torch.bfloat16)
