"""Which way each module of a quantized folder goes into a format, chosen before all writing.

All go the same way if there is one that keeps every number. Otherwise the conversion is refused,
or each goes the way that changes it the least; where the format has one scheme, all go one way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from hubq.errors import UserError
from hubq.formats import Format
from hubq.formats.dense import Dense, Plain
from hubq.formats.foreign.folder import QuantizedFolder
from hubq.machine.progress import Progress
from hubq.stages.convert.strategies import (
    Strategy,
    dense_strategies,
    exact_strategies,
    lossy_strategies,
    refusal,
    without_data,
)
from hubq.tensors import QuantizedTensor

ALL_KEEPING = (Strategy(), Strategy("left out"), Strategy("written out"))
NOT_THERE = "its zeros are not all in the middle of the range"


@dataclass(frozen=True)
class Survey:
    """One module, without data: each way into the format, and what speaks against it."""

    reasons: dict[Strategy, str | None] = field(default_factory=dict)
    sketches: dict[Strategy, QuantizedTensor] = field(
        default_factory=dict
    )  # of the ways without one
    facts: Mapping[str, float] = field(default_factory=dict)


Surveys = Mapping[str, Survey]
Strategies = dict[str, Strategy]


def survey(
    source: QuantizedFolder, form: Format, *, lossy: bool, progress: Progress
) -> dict[str, Survey]:
    """Look at all modules, in most formats without reading the codes."""
    found = {}
    with progress.task("Looking", len(source.modules)) as advance:
        for module in source.modules:
            found[module] = _surveyed(source, module, form, lossy=lossy)
            advance(1)
    return found


def _surveyed(source: QuantizedFolder, module: str, form: Format, *, lossy: bool) -> Survey:
    tensor = source.read(module, codes=False)
    bare, known = without_data(tensor), Survey(facts=dict(tensor.facts))
    for strategy in _strategies(tensor, form, getattr(torch, source.dtype), lossy=lossy):
        rounds = strategy.grid is not None or strategy.dense is not None  # which takes long
        given = bare if rounds else tensor
        known.reasons[strategy] = refusal(module, given, strategy, form, tied=source.tied)
        if known.reasons[strategy] is None:
            known.sketches[strategy] = without_data(strategy.apply(bare))
    return known


def _strategies(
    tensor: QuantizedTensor, form: Format, dtype: torch.dtype, *, lossy: bool
) -> list[Strategy]:
    """List the ways of a tensor; those that keep all numbers come first."""
    if isinstance(form, Dense):
        return list(dense_strategies(dtype, lossy=lossy))
    return [*exact_strategies(tensor), *(lossy_strategies(tensor, form, dtype) if lossy else ())]


def choose(surveys: Surveys, form: Format, *, lossy: bool) -> Strategies:
    """Choose the way of each module; raise UserError that says what speaks against a conversion."""
    refused: list[str] = []
    for strategy in _first(surveys) if isinstance(form, Dense) else ALL_KEEPING:
        mistakes = _mistakes(surveys, strategy, form)
        if not mistakes:
            return dict.fromkeys(surveys, strategy)
        refused = refused or mistakes
    found = _with_loss(surveys, form) if lossy else None
    if found is None:
        way_out = "" if lossy else "allow a loss with --lossy (it will be measured), or "
        raise UserError(
            "\n  ".join([f"the model does not fit into {form.name}:", *refused])
            + f"\nTo go on, {way_out}name another format with --to."
        )
    return found


def _first(surveys: Surveys) -> list[Strategy]:
    """Return the first way of all, as a list of one."""
    return list(next(iter(surveys.values())).reasons)[:1]


def _mistakes(surveys: Surveys, strategy: Strategy, form: Format) -> list[str]:
    """Say why not all modules can go one way; empty when they can."""
    reasons: dict[str, list[str]] = {}
    for module, known in surveys.items():
        if (reason := known.reasons.get(strategy, NOT_THERE)) is not None:
            reasons.setdefault(reason, []).append(module)
    if reasons:
        return [f"{_which(modules)}: {reason}" for reason, modules in reasons.items()]
    together = _together(surveys, dict.fromkeys(surveys, strategy), form)
    return [together] if together else []


def _together(surveys: Surveys, strategies: Strategies, form: Format) -> str | None:
    sketches = {
        module: surveys[module].sketches[strategy] for module, strategy in strategies.items()
    }
    return form.why_unsupported_together(packed(sketches, form))


def packed(sketches: Mapping[str, QuantizedTensor], form: Format) -> dict[str, QuantizedTensor]:
    """Leave out what lies in a packed file as a norm does: in 16 bits, unknown to the config."""
    is_dense = isinstance(form, Dense)
    return {
        name: each for name, each in sketches.items() if is_dense or not isinstance(each, Plain)
    }


def _with_loss(surveys: Surveys, form: Format) -> Strategies | None:
    """Let each module go the first way that is open to it; where that makes no file, all one."""
    first = next(iter(surveys.values()))
    for like in (None, *_open(first)):
        open_strategies = {module: _open(known, like) for module, known in surveys.items()}
        strategies = {module: found[0] for module, found in open_strategies.items() if found}
        if len(strategies) == len(surveys) and _together(surveys, strategies, form) is None:
            return strategies
    return None


def _open(known: Survey, like: Strategy | None = None) -> list[Strategy]:
    """List the ways that nothing speaks against; those like another, and those of embeddings.

    Embeddings are written out, so that they lie beside any scheme.
    """
    strategies = [strategy for strategy, reason in known.reasons.items() if reason is None]
    return [
        strategy
        for strategy in strategies
        if like is None or strategy == like or strategy.dense is not None
    ]


def _which(modules: list[str]) -> str:
    """Name modules in a few words: the kinds, and of how many layers."""
    kinds = list(dict.fromkeys(module.rpartition(".")[2] for module in modules))
    return f"{', '.join(kinds)} ({len(modules)} modules)"
