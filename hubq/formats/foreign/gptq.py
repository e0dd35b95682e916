"""Read gptq modules that anyone wrote: both versions, with zeros, with activation order.

Version 1 stores each zero less one, so a zero of 0 was stored as -1, that is as 2^bits - 1. It is
read as 0 here, which is all that its writer can have meant (a range that includes 0 has no zero of
2^bits); `wrapped_zeros` counts these, since loaders that add the one to whole words carry it into
the neighbour. An index of groups that is out of order makes a `Reordered` tensor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.formats.foreign.parts import contradiction, fits, matrix, order_of, require_finite
from hubq.tensors import PER_CHANNEL, Affine, QuantizedTensor, Reordered, packing

WIDTHS = (2, 3, 4, 8)
VERSION_2 = "gptq_v2"
VERSIONS = ("gptq", VERSION_2)


@dataclass(frozen=True)
class Settings:
    """What the config says of one module."""

    bits: int
    group_size: int
    symmetric: bool | None  # None: it doesn't say
    activation_order: bool | None
    version: str

    @property
    def zero_offset(self) -> int:
        """What was taken off each zero before it was stored."""
        return 0 if self.version == VERSION_2 else 1


def read(module: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> QuantizedTensor:
    """Return a module's tensor; raise UserError where config and tensors contradict one another."""
    settings = settings_of(config, module)
    bits = settings.bits
    qweight = matrix(module, "qweight", tensors, torch.int32)
    scales = matrix(module, "scales", tensors, torch.float16, torch.bfloat16, torch.float32)
    qzeros = matrix(module, "qzeros", tensors, torch.int32)
    groups = tensors.get(f"{module}.g_idx")
    columns = qweight.shape[0] * packing.WORD_BITS // bits if groups is None else groups.numel()
    size = columns if settings.group_size == PER_CHANNEL else settings.group_size
    if groups is None and settings.activation_order and size < columns:
        raise contradiction(module, "desc_act: true", "has no g_idx, which tells the groups apart")
    _require_shapes(module, settings, (qweight, scales, qzeros), (columns, size))
    require_finite(module, scales)
    zero, wrapped = _zeros(module, qzeros, scales.shape[1], settings)
    order = None if groups is None else _order(module, groups, size, settings)
    codes = packing.unpack(qweight.T, bits, columns)
    tensor = Affine(
        codes=codes if order is None else codes[:, order.to(codes.device)],
        scale=scales.T.contiguous(),
        zero=zero,
        bits=bits,
        group_size=size,
        facts={"wrapped_zeros": wrapped} if wrapped else {},
    )
    return tensor if order is None else Reordered(tensor, order, facts=tensor.facts)


def settings_of(config: Mapping[str, Any], module: str = "") -> Settings:
    """Read the config, with what gptqmodel's `dynamic` says of a module; raise UserError."""
    said = {**config, **_overrides(config.get("dynamic") or {}, module)}
    bits, group_size = said.get("bits"), said.get("group_size")
    if bits not in WIDTHS:
        raise UserError(
            f"the quantization_config says bits: {bits}; gptq files have 2, 3, 4 or 8. "
            "Correct it, or fetch the model again"
        )
    if not isinstance(group_size, int) or (group_size < 1 and group_size != PER_CHANNEL):
        raise UserError(
            f"the quantization_config says group_size: {group_size}; set it to the number of "
            "inputs that share a scale, or to -1 for a whole row (the first size of any .scales "
            "is the number of groups)"
        )
    return Settings(bits, group_size, said.get("sym"), said.get("desc_act"), _version(said))


def _overrides(dynamic: Mapping[str, Any], module: str) -> Mapping[str, Any]:
    """Return what the first pattern that fits a module's name changes."""
    for pattern, changes in dynamic.items():
        if not pattern.startswith("-:") and fits(pattern.removeprefix("+:"), module):
            return changes or {}
    return {}


def _version(said: Mapping[str, Any]) -> str:
    named = {said[key] for key in ("checkpoint_format", "format") if said.get(key)} or {"gptq"}
    if len(named) > 1:
        raise UserError(
            "the quantization_config names two versions of the format, "
            f"{' and '.join(sorted(named))}, whose zeros differ by one; keep only the right one"
        )
    (version,) = named
    if version not in VERSIONS:
        raise UserError(
            f"the quantization_config says checkpoint_format: {version}; hubq reads "
            f"{' and '.join(VERSIONS)}. Look for the same model in one of them"
        )
    return str(version)


def _require_shapes(
    module: str,
    settings: Settings,
    parts: tuple[Tensor, Tensor, Tensor],
    sizes: tuple[int, int],  # columns, and those of a group
) -> None:
    """Refuse tensors whose shapes do not follow from the config."""
    qweight, scales, qzeros = parts
    (columns, size), bits, out = sizes, settings.bits, qweight.shape[1]
    if scales.shape[1] != out:
        raise UserError(f"{module} has {out} outputs in qweight and {scales.shape[1]} in scales")
    expected = (packing.words(columns, bits), packing.words(out, bits))
    if (qweight.shape[0], qzeros.shape[1]) != expected:
        held = packing.WORD_BITS * qzeros.shape[1] / out
        raise contradiction(
            module,
            f"bits: {bits}",
            f"has qweight {tuple(qweight.shape)} and qzeros {tuple(qzeros.shape)} for "
            f"{out} outputs, as files of {held:g} bits have",
        )
    if (scales.shape[0], qzeros.shape[0]) != (-(-columns // size),) * 2:
        raise contradiction(
            module,
            f"group_size: {settings.group_size}",
            f"has {scales.shape[0]} groups in scales and {qzeros.shape[0]} in qzeros "
            f"for {columns} inputs",
        )


def _zeros(
    module: str, qzeros: Tensor, out: int, settings: Settings
) -> tuple[Tensor | None, int]:  # (out, groups) uint8
    """Return the zeros, None for those of symmetric weights, and how many had wrapped around."""
    levels, middle = (1 << settings.bits) - 1, 1 << (settings.bits - 1)
    stored = packing.unpack(qzeros, settings.bits, out)
    zero = ((stored + settings.zero_offset) & levels).T.contiguous()
    others = int((zero != middle).sum())
    if settings.symmetric and others:
        raise contradiction(
            module,
            f"sym: true (with checkpoint_format {settings.version})",
            f"has {others} of {zero.numel()} zeros that are not {middle}",
        )
    wrapped = int((zero == 0).sum()) if settings.zero_offset else 0
    if settings.symmetric or (settings.symmetric is None and not others):
        return None, 0
    return zero, wrapped


def _order(module: str, groups: Tensor, size: int, settings: Settings) -> Tensor | None:
    order = order_of(module, groups, size)
    if order is not None and settings.activation_order is False:
        raise contradiction(
            module,
            "desc_act: false",
            "has its columns in a different order from its groups (g_idx)",
        )
    return order
