"""What one version changed of another: settings, bits and bytes, and every number with its noise.

Two reports hold means, not answers, so versions can't be paired item by item. Where both were
measured on the same items beside the same base, each is paired with that base, and what parts
them is the difference of the two differences. Their errors are taken as independent: what is
called noise may then be a difference, never the reverse.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hubq.machine.files import gigabytes
from hubq.records.number_format import judged, number
from hubq.records.report import (
    CONFIDENCE,
    Better,
    Cost,
    Interval,
    Measured,
    Measurement,
    Report,
)
from hubq.records.versions import MOST_TEXT, Number, Verdict, Version
from hubq.stages.compare.comparison import entry
from hubq.stages.recipe.text import presentable

ELSEWHERE = ("name", "model", "evaluate", "publish", "format")  # told by other lines, or no setting
ALIKE = 0.01  # how far two measurements of one base may be apart


class Found(NamedTuple):
    """One number of a report, and what it can be compared with."""

    value: Interval
    better: Better
    items: tuple[object, ...]  # what it was measured on, and how
    base: float | None = None  # None: its base has no such number
    difference: Interval | None = None  # from the base, in pairs; None: not known
    is_quality: bool = True  # a cost differs from run to run, by more than its repetitions tell


def version_of(report: Report, name: str, date: str) -> Version:
    """Say of a report's release what a version says of itself, without what it changed."""
    own = entry(report)
    return Version(
        name=name,
        date=date,
        recipe=plain(report.plan.recipe.get("name", "unknown")),
        method=plain(own.method),
        form=plain(own.form),
        linear_bits=own.stored_bits,
        model_bits=own.model_bits,
        weight_bytes=own.weight_bytes,
        base=plain(report.plan.source),
    )


def plain(value: object) -> str:
    """Write a value on one line of at most MOST_TEXT characters, without what ends a code span."""
    text = "".join(each if each.isprintable() and each != "`" else "?" for each in str(value))
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 3] + "..."


def settings(before: Report, after: Report) -> tuple[str, ...]:
    """List what differs of the recipes' settings, the bits, the size and the base."""
    old, new = (_flat(presentable(each.plan.recipe)) for each in (before, after))
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    found = [(key, old.get(key, "not set"), new.get(key, "not set")) for key in keys]
    found += [
        ("format", before.plan.recipe["format"], after.plan.recipe["format"]),
        ("base", before.plan.source, after.plan.source),
        ("stored bits per weight", number(before.linear_bits), number(after.linear_bits)),
        ("bits per parameter", number(before.model_bits), number(after.model_bits)),
        ("weights", gigabytes(before.weight_bytes), gigabytes(after.weight_bytes)),
    ]
    changed = [(what, one, other) for what, one, other in found if one != other]
    return tuple(plain(f"{what}: {one} → {other}") for what, one, other in changed)[:200]


def _flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Name the settings of a recipe that make the model by their path."""
    found: dict[str, object] = {}
    for key, value in recipe.items():
        if not prefix and key in ELSEWHERE:
            continue
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def numbers(before: Measured | None, after: Measured) -> tuple[Number, ...]:
    """Put every number of two reports side by side; None: the older one can't be read."""
    old, new = dict(_found(before)) if before else {}, dict(_found(after))
    return tuple(
        Number(
            title=plain(title),
            before=old[title].value if title in old else None,
            after=new[title].value if title in new else None,
            verdict=_verdict(title, old[title], new[title]) if title in old.keys() & new else None,
        )
        for title in dict.fromkeys([*new, *old])
    )


def _found(measured: Measured) -> Iterator[tuple[str, Found]]:
    """Yield every number of a report by its title."""
    for each in measured.measurements:
        is_text = each.metric == each.task
        title = f"{each.task} on {each.dataset}" if is_text else f"{each.task} {each.metric}"
        yield title, _of_measurement(each)
    if mean := measured.overall:
        items = {f"{each.task} {each.metric}": _items(each) for each in measured.measurements}
        asked = tuple((name, items.get(name)) for name in mean.accuracies)
        yield (
            "mean accuracy",
            Found(Interval(value=mean.value), "higher", asked, mean.base, mean.difference),
        )
    yield from _fidelity(measured)
    yield from _costs(measured)


def _of_measurement(measurement: Measurement) -> Found:
    """Take a measurement with the interval of its own."""
    value, stderr = measurement.value, measurement.stderr
    noise = None if stderr is None else CONFIDENCE * stderr
    return Found(
        _around(value, noise),
        measurement.better,
        _items(measurement),
        measurement.base,
        measurement.difference if measurement.paired else None,
    )


def _around(value: float, noise: float | None) -> Interval:
    if noise is None:
        return Interval(value=value)
    return Interval(value=value, low=value - noise, high=value + noise)


def _items(each: Measurement) -> tuple[object, ...]:
    return each.dataset, each.version, each.samples, each.protocol, each.chance


def _fidelity(measured: Measured) -> Iterator[tuple[str, Found]]:
    """Yield how closely a result follows its base, whose own numbers are 0 and 1."""
    if known := measured.fidelity:
        items = (known.dataset, known.version, known.protocol, known.result.tokens)
        yield "KL divergence from the base", Found(known.result.mean, "lower", items)
        agreement = known.result.agreement
        yield "same likeliest next token as the base", Found(agreement, "higher", items)


def _costs(measured: Measured) -> Iterator[tuple[str, Found]]:
    """Yield what a model takes to run."""
    costs = measured.efficiency
    if costs is None:
        return
    how = (costs.batch, costs.prompt, costs.output, costs.engine, costs.hardware)
    for title, better, value in _taken(costs.result):
        yield title, Found(value, better, how, is_quality=False)


def _taken(cost: Cost) -> Iterator[tuple[str, Better, Interval]]:
    yield "tokens per second", "higher", cost.tokens_per_second
    yield "seconds to the first token", "lower", cost.first_token_seconds
    yield "peak memory, bytes", "lower", Interval(value=cost.memory_peak)


def _verdict(title: str, old: Found, new: Found) -> Verdict:
    """Say in a word what became of a number: never worse or better where chance explains it."""
    if old.items != new.items:
        return "measured otherwise"
    if not new.is_quality:
        return "noise not known"
    said = judged(
        Measurement(
            task=title,
            dataset="",
            metric=title,
            better=new.better,
            base=old.value.value,
            base_stderr=None,
            value=new.value.value,
            stderr=None,
            difference=_parting(old, new),
            samples=0,
            protocol="",
            version="",
        )
    )
    verdicts: dict[str, Verdict] = {
        each: each for each in ("better", "worse", "within noise", "noise not known")
    }
    return verdicts[said]


def _parting(old: Found, new: Found) -> Interval | None:
    """Return how far two versions are apart, with the interval of that; None: it isn't known."""
    if old.base is not None and new.base is not None and old.difference and new.difference:
        noise = _noise(old.difference, new.difference)
        if noise is not None and math.isclose(old.base, new.base, rel_tol=ALIKE):
            return _around(new.difference.value - old.difference.value, noise)
    noise = _noise(old.value, new.value)
    return None if noise is None else _around(new.value.value - old.value.value, noise)


def _noise(one: Interval, other: Interval) -> float | None:
    """Return half the width of the interval of a difference of two numbers."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return None
    return math.hypot(one.high - one.low, other.high - other.low) / 2
