"""What affine tensors must share to be described by one entry of a quantization_config."""

from collections.abc import Mapping
from typing import NamedTuple

from hubq.tensors import PER_CHANNEL, Affine, QuantizedTensor


class Scheme(NamedTuple):
    """The width, the group size and the kind of zero of affine tensors, and their inputs' width."""

    bits: int
    group_size: int  # -1: a whole row
    symmetric: bool
    activation_bits: int | None = None  # None: inputs are not rounded

    def __str__(self) -> str:
        kind = "symmetric" if self.symmetric else "asymmetric"
        rows = self.group_size == PER_CHANNEL
        groups = "whole rows" if rows else f"groups of {self.group_size}"
        inputs = f" with inputs of {self.activation_bits}" if self.activation_bits else ""
        return f"{kind} {self.bits} bits in {groups}{inputs}"


def schemes(quantized: Mapping[str, QuantizedTensor]) -> dict[str, Scheme]:
    """Name the scheme of each module; all must be affine.

    A row of just one group counts as a whole row, unless others of its kind have groups of that
    size: then it belongs with them, and the file is the same.
    """
    affine = {name: each for name, each in quantized.items() if isinstance(each, Affine)}
    assert len(affine) == len(quantized), "a format was given what its `why_unsupported` refuses"
    grouped = {_own(each) for each in affine.values() if each.group_size < each.shape[1]}

    def scheme(tensor: Affine) -> Scheme:
        own = _own(tensor)
        whole_row = tensor.group_size == tensor.shape[1] and own not in grouped
        return own._replace(group_size=PER_CHANNEL) if whole_row else own

    return {name: scheme(each) for name, each in affine.items()}


def difference(its: Mapping[str, object]) -> str | None:
    """Say which module's scheme differs from the first one's, or None when all share one."""
    first = next(iter(its), "")
    for module, scheme in its.items():
        if scheme != its[first]:
            return f"{first} has {its[first]}, and {module} {scheme}"
    return None


def the_scheme(quantized: Mapping[str, QuantizedTensor]) -> Scheme:
    """Return the scheme that all share; `why_unsupported_together` refuses models without one."""
    (scheme,) = set(schemes(quantized).values())
    return scheme


def _own(tensor: Affine) -> Scheme:
    return Scheme(tensor.bits, tensor.group_size, tensor.symmetric, tensor.activation_bits)
