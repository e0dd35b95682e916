"""Whether an engine serves weights that lie so: as `make engines` tried it, or by its sources.

The one place that decides this: lint's rules ask it, and plan and card ask lint. Only what
engines.json holds counts as tested, and what failed there is not said to load.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

from hubq.machine.engines import engines
from hubq.records.engine_tests import Attempt, Engine, EngineTests, Layout
from hubq.sources.architecture import FAMILIES
from hubq.sources.source import AUTO_ROUND
from hubq.stages.lint.findings import LLAMA_CPP, SGLANG, VLLM

FILE = Path(__file__).with_name("engines.json")
BY_SOURCES = "by its sources"
SHOWN = 120  # characters of what an engine says where it refuses
OWN = "hubq"  # the format whose repos carry their reader
# The quantization methods that an engine has no reader for.
UNREAD: Mapping[str, frozenset[str]] = {
    VLLM: frozenset({"bitsandbytes", "hqq", "quanto", "eetq", OWN}),
    SGLANG: frozenset({"torchao", "hqq", "quanto", "eetq", OWN}),
    LLAMA_CPP: frozenset(
        {"awq", "bitsandbytes", "torchao", "quark", "hqq", "quanto", "eetq", OWN, *AUTO_ROUND}
    ),
}


class Serving(NamedTuple):
    """Whether an engine loads something, and how that is known."""

    loads: bool | None  # None: neither is known
    known: str


def engine_tests() -> EngineTests:
    """Read what was tried; nothing where there is no file. Raises UserError for another form."""
    return _read(FILE)


@cache
def _read(path: Path) -> EngineTests:
    return EngineTests.load(path) if path.exists() else EngineTests()


class Stored(NamedTuple):
    """What decides whether an engine loads a model."""

    architecture: str | None  # the class that config.json names
    layouts: Sequence[Layout]  # of its linears
    quantized_embeddings: bool = False  # or a head that is


def serving(engine: str, stored: Stored) -> Serving:
    """Say whether an engine loads a model."""
    if unread := [each.format for each in stored.layouts if each.format in UNREAD[engine]]:
        return Serving(False, f"no reader for {unread[0]}")
    if stored.quantized_embeddings:
        return Serving(None, "not known to read this format with quantized embeddings")
    found = _tried(engine, stored.layouts)
    if found.loads and stored.architecture not in FAMILIES:
        return Serving(None, f"not known: no rule is about {str(stored.architecture)[:80]}")
    return found


def _tried(engine: str, layouts: Sequence[Layout]) -> Serving:
    """Say whether an engine has the kernels: as it was tried, or by its sources."""
    by_sources = all(_has_kernel(engine, each) for each in layouts)
    right, failed = _found(engine, layouts)
    words = [f"tested with {_where(each)}" for each, _ in right]
    words += [f"{_how(one)} with {_where(each)}{_said(one)}" for each, one in failed]
    if not failed:
        unlike = BY_SOURCES if by_sources else f"no kernel for these bits, {BY_SOURCES}"
        return Serving(bool(right) or by_sources, "; ".join(words) or unlike)
    # Another device may have the kernel that the one that was tried lacks.
    elsewhere = engine != LLAMA_CPP and by_sources and all(e.device == "CPU" for e, _ in failed)
    if elsewhere and not right:
        words.append(f"on a GPU {BY_SOURCES}")
    return Serving(None if right or elsewhere else False, "; ".join(words))


Pairs = list[tuple[Engine, Attempt]]


def _found(engine: str, layouts: Sequence[Layout]) -> tuple[Pairs, Pairs]:
    """Return the tests that were right, of exactly these layouts, and those that failed.

    Where all tests of a width failed, whatever the groups, it fails with other groups too. Several
    layouts in one file were never tried together: none is tested, and one that fails is enough.
    """
    tried = [(each, one) for each in engine_tests().engines if each.name == engine
             for one in each.tests]  # fmt: skip
    failed: Pairs = []
    for layout in dict.fromkeys(layouts):
        exact = [pair for pair in tried if pair[1].layout == layout]
        alike = _without_groups(layout)
        width = [pair for pair in tried if _without_groups(pair[1].layout) == alike]
        if not exact and all(one.outcome != "right" for _, one in width):
            exact = width[:1]
        if len(layouts) == 1:
            right = [pair for pair in exact if pair[1].outcome == "right"]
            return right, [pair for pair in exact if pair not in right]
        failed += [pair for pair in exact if pair[1].outcome != "right"]
    return [], failed


def _without_groups(layout: Layout) -> Layout:
    return layout.model_copy(update={"group_size": None})


def _has_kernel(engine: str, layout: Layout) -> bool:
    """Tell whether an engine has a kernel, by its sources; llama.cpp converts all but two."""
    if engine == LLAMA_CPP:
        return (layout.format, layout.bits) != ("gptq", 3) and layout.element_type != "mxfp4"
    kind = (layout.bits, layout.activation_bits, layout.element_type)
    return engine in engines(layout.format, *kind)


def _where(engine: Engine) -> str:
    settings = f" with {engine.settings}" if engine.settings else ""
    return f"{engine.name} {engine.version} on a {engine.device}{settings}, {engine.date}"


def _how(one: Attempt) -> str:
    return "fails" if one.outcome == "refused" else "answers otherwise than transformers"


def _said(one: Attempt) -> str:
    return f": {shorten(one.said, SHOWN, placeholder=' ...')}" if one.said else ""
