"""Which weight matrices a recipe quantizes, what each will take, and what can't work."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hubq.errors import UserError
from hubq.formats import Format, format_named, refusal_of, scale_dtype
from hubq.methods import Method
from hubq.records.plan import PlannedModule
from hubq.sources.architecture import Family, family_of
from hubq.sources.source import Source, dtype_of
from hubq.stages.plan.adapting import which, why_not_adapted
from hubq.stages.recipe.recipe import Recipe, head_method
from hubq.tensors import QuantizedTensor

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Selection:
    """All weight matrices of a model, in the order of its data."""

    modules: tuple[PlannedModule, ...]
    linears: frozenset[str]  # of the decoder blocks
    dropped: frozenset[str]  # tensors of the source that the result doesn't have
    needed_bits: float  # a weight of the linears, by the method's definition


def select(recipe: Recipe, source: Source) -> Selection:
    """Choose and count the modules; raise UserError that lists all that can't work."""
    family = family_of(source.config)
    form = format_named(recipe.format)
    linears = tuple(linear_names(source, family))
    head = head_names(source, family)
    shapes = {name: _shape(source, name) for name in (*linears, *head)}
    wanted = dict.fromkeys(linears, recipe.method) | _quantized_head(recipe, source, family, form)
    sketches = _sketches(wanted, shapes, scale_dtype(dtype_of(source), form))
    _refuse(recipe, source, sketches, shapes, wanted)
    counted = _Counter(form)
    modules = (
        counted.quantized(name, sketches[name])
        if name in sketches
        else _kept(name, shapes[name], source)
        for name in _in_order(linears, head, family)
    )
    tied_copy = {f"{family.head}.weight"} if is_tied(source) else set()
    return Selection(
        tuple(modules), frozenset(linears), frozenset(tied_copy), _needed(sketches, linears)
    )


def linear_names(source: Source, family: Family) -> Iterator[str]:
    """Yield the full names of the linears of all blocks."""
    blocks = source.config.get("num_hidden_layers")
    if not isinstance(blocks, int) or blocks < 1:
        raise UserError(f"config.json says num_hidden_layers {blocks}: download the model again")
    yield from family.linears(blocks)


def is_tied(source: Source) -> bool:
    """Tell whether embeddings and head are one tensor; in all known families it's off if unsaid."""
    return bool(source.config.get("tie_word_embeddings", False))


def head_names(source: Source, family: Family) -> tuple[str, ...]:
    """Return the embeddings and, unless that is the same tensor, the head."""
    return (family.embeddings,) if is_tied(source) else (family.embeddings, family.head)


def _needed(sketches: Mapping[str, QuantizedTensor], linears: tuple[str, ...]) -> float:
    """Return the bits a weight that define the linears."""
    known: dict[int, float] = {}  # equal sketches are one object
    bits = weights = 0.0
    for sketch in map(sketches.__getitem__, linears):
        if id(sketch) not in known:
            known[id(sketch)] = sketch.theoretical_bits()
        size = sketch.shape[0] * sketch.shape[1]
        bits, weights = bits + known[id(sketch)] * size, weights + size
    return bits / weights


def _in_order(linears: tuple[str, ...], head: tuple[str, ...], family: Family) -> tuple[str, ...]:
    return (family.embeddings, *linears, *(name for name in head if name != family.embeddings))


def _shape(source: Source, module: str) -> tuple[int, int]:
    info = source.tensors.get(f"{module}.weight")
    if info is None or len(info.shape) != 2:
        what = "has no" if info is None else "has an odd"
        raise UserError(
            f"the model {what} {module}.weight, which its config.json promises; its files are "
            "incomplete: download it again"
        )
    return info.shape[0], info.shape[1]


def _quantized_head(
    recipe: Recipe, source: Source, family: Family, form: Format
) -> dict[str, Method]:
    """Return which of embeddings and head are quantized, and how."""
    if recipe.embeddings == 16:
        return {}
    if mistake := form.why_embeddings_unsupported(is_tied(source)):
        raise UserError(f"embeddings: {recipe.embeddings} can't work: {mistake}")
    names = {"embed_tokens": family.embeddings, "lm_head": family.head}
    return {names[each]: head_method(recipe) for each in form.embeddings(is_tied(source))}


def _sketches(
    wanted: Mapping[str, Method], shapes: Mapping[str, tuple[int, int]], scales: "torch.dtype"
) -> dict[str, QuantizedTensor]:
    """Sketch every tensor; equal ones are sketched once."""
    known: dict[tuple[int, tuple[int, int]], QuantizedTensor] = {}
    for name, method in wanted.items():
        key = (id(method), shapes[name])
        if key not in known and method.why_unsupported(shapes[name]) is None:
            known[key] = method.sketch(shapes[name], scales)
    found = {name: (id(method), shapes[name]) for name, method in wanted.items()}
    return {name: known[key] for name, key in found.items() if key in known}


def _refuse(
    recipe: Recipe,
    source: Source,
    sketches: Mapping[str, QuantizedTensor],
    shapes: Mapping[str, tuple[int, int]],
    wanted: Mapping[str, Method],
) -> None:
    """Raise UserError that says of each reason once which layers it concerns."""
    form = format_named(recipe.format)
    reasons: dict[str, list[str]] = {}
    told: dict[int, str | None] = {}
    for name in wanted:
        if name not in sketches:
            reason = wanted[name].why_unsupported(shapes[name])
        else:
            key = id(sketches[name])
            if key not in told:
                told[key] = refusal_of(form, sketches[name])
            reason = told[key]
        if reason is not None:
            reasons.setdefault(reason, []).append(name)
    lines = [f"{which(names)}: {reason}" for reason, names in reasons.items()]
    if not lines and (together := form.why_unsupported_together(sketches)):
        lines.append(together)
    if recipe.kv_cache != 16 and form.kv_cache_settings() is None:
        lines.append(
            f"kv_cache: {recipe.kv_cache}: {form.name} files hold no scales of keys and values; "
            "use format: compressed-tensors, or kv_cache: 16"
        )
    if recipe.reads_text and recipe.calibration is None:
        what = f"method {recipe.method_name}" if recipe.method.needed else "kv_cache: fp8"
        lines.append(
            f"{what} needs calibration data: add a section calibration, "
            "such as {dataset: wikitext2, samples: 128, length: 2048}"
        )
    blocks = f"{family_of(source.config).blocks}."
    inside = {name: each for name, each in sketches.items() if name.startswith(blocks)}
    lines += why_not_adapted(recipe, source, inside)
    if lines:
        raise UserError("\n  ".join(["this recipe can't work:", *lines]))


def _kept(name: str, shape: tuple[int, int], source: Source) -> PlannedModule:
    info = source.tensors[f"{name}.weight"]
    size = info.end - info.begin
    bits = 8 * size / (shape[0] * shape[1])
    return PlannedModule(name=name, shape=shape, quantized=False, bits=bits, bytes=size)


class _Counter:
    """Counts the bytes of packed tensors, equal sketches once."""

    def __init__(self, form: Format) -> None:
        self.form = form
        self.known: dict[int, int] = {}

    def quantized(self, name: str, sketch: QuantizedTensor) -> PlannedModule:
        """Return a module as the format would pack it."""
        if id(sketch) not in self.known:
            packed = self.form.pack(name, sketch)
            self.known[id(sketch)] = sum(each.nbytes for each in packed.values())
        size = self.known[id(sketch)]
        bits = 8 * size / (sketch.shape[0] * sketch.shape[1])
        return PlannedModule(name=name, shape=sketch.shape, quantized=True, bits=bits, bytes=size)
