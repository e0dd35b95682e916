"""The layers of a model that stays packed: each computes its weight when it is called.

The packed tensors are buffers under the names that they have in the file, so they are loaded,
moved and saved as any others; the dense weight is never kept.
"""

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from hubq.runtime.formulas import affine_weight
from hubq.runtime.reading import Fields, restored, unpacked
from hubq.runtime.schemes import ROOT, Scheme, Shape
from hubq.runtime.unpacking import WORD_BITS, unpack_stream


class Packed(nn.Module):
    """A layer with a packed weight in place of a dense one."""

    bias: nn.Parameter | None

    def __init__(
        self, layer: nn.Module, scheme: Scheme, shape: Shape, tensors: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self.scheme, self.shape, self.names = scheme, shape, tuple(tensors)
        self.dtype: torch.dtype = layer.weight.dtype  # type: ignore[assignment]
        # In a tuple torch sees no child: the layer without weights, to be filled by `unpack`.
        self.emptied = (layer,)
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        self.register_parameter("bias", getattr(layer, "bias", None))

    def weight_in(self, dtype: torch.dtype) -> Tensor:  # (out, in)
        """Compute the dense weight."""
        return restored(self.fields(), dtype)

    def fields(self) -> Fields:
        """Undo the packing; raise ValueError for tensors that are not as the scheme wants them."""
        return unpacked(self.scheme, self._tensors(), self.shape)

    def unpack(self) -> nn.Module:
        """Return the layer with its weight and bias as parameters."""
        (layer,) = self.emptied
        layer.weight = nn.Parameter(self.weight_in(self.dtype))
        if self.bias is not None:
            layer.bias = self.bias
        return layer.train(self.training)

    def _tensors(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(name) for name in self.names}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the packed tensors but never cast them: scales are exact in their own dtype only."""
        packed = self._tensors()
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in packed.items():
            setattr(self, name, tensor.to(self.get_buffer(name).device))
        return self

    def extra_repr(self) -> str:
        """Say the shape of the weight, and the kind of the scheme."""
        return f"{self.shape[0]} x {self.shape[1]}, {self.scheme['kind']}"


class PackedLinear(Packed):
    """A linear layer."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Unpack the weight, multiply and forget it."""
        return functional.linear(inputs, self.weight_in(inputs.dtype), self.bias)


class PackedEmbedding(Packed):
    """A table of embeddings, of which each call reads the rows that it needs."""

    def forward(self, ids: Tensor) -> Tensor:
        """Look up the rows of token ids."""
        wanted, place = torch.unique(ids, return_inverse=True)
        return self.rows(wanted).to(self.dtype)[place]

    def rows(self, wanted: Tensor) -> Tensor:  # (n,) -> (n, in) float32
        """Compute some rows of the weight; all, where rows do not begin with a word."""
        tensors, (out, columns) = self._tensors(), self.shape
        bits = self.scheme.get("bits", 0)
        if self.scheme["kind"] != "affine" or columns * bits % WORD_BITS:
            return restored(self.fields())[wanted]
        words = tensors[ROOT].view(out, -1)[wanted]
        codes = unpack_stream(words.flatten(), bits, len(wanted) * columns).view(-1, columns)
        group_size = self.scheme["group_size"]
        inner = (out, -(-columns // group_size))
        scale = restored(unpacked(self.scheme["scale"], tensors, inner, f"{ROOT}_scale"))[wanted]
        zero = None
        if not self.scheme["symmetric"]:
            stream = tensors[f"{ROOT}_zero"]
            zero = unpack_stream(stream, bits, inner[0] * inner[1]).view(inner)[wanted]
        return affine_weight(codes, scale, zero, bits, group_size)


class TiedLinear(nn.Module):
    """An output layer whose weight is that of packed embeddings."""

    bias: nn.Parameter | None

    def __init__(self, layer: nn.Module, source: Packed) -> None:
        super().__init__()
        self.emptied = (layer,)
        self.source = (source,)  # in a tuple, for torch to count its tensors only once
        self.register_parameter("bias", getattr(layer, "bias", None))

    def forward(self, inputs: Tensor) -> Tensor:
        """Unpack the embeddings, multiply and forget them."""
        weight = self.source[0].weight_in(inputs.dtype).to(inputs.device)
        return functional.linear(inputs, weight, self.bias)

    def unpack(self, weight: nn.Parameter) -> nn.Module:
        """Return the layer with the embeddings' weight."""
        (layer,) = self.emptied
        layer.weight = weight
        return layer.train(self.training)


PACKED: Mapping[type[nn.Module], type[Packed]] = {
    nn.Linear: PackedLinear,
    nn.Embedding: PackedEmbedding,
}


def packed_kind(layer: Any) -> type[Packed] | None:  # noqa: ANN401 - a module of any kind
    """Return the packed kind of a layer, or None for one that has no such kind."""
    return next((PACKED[kind] for kind in PACKED if isinstance(layer, kind)), None)
