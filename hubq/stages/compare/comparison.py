"""Models side by side: what each takes and what it keeps, and which of them are the front.

An entry is a model in one row, from its report alone. Which of them to take:
`hubq/stages/compare/pareto.py`.
"""

import math
from collections.abc import Iterable, Sequence

from pydantic import field_validator

from hubq.machine.device import DTYPES
from hubq.records.adapted_report import AdaptedReport
from hubq.records.record import Record
from hubq.records.report import Assessment, Interval, Measured, Report

UNKNOWN = "unknown"  # the method of a model that hubq did not make
ALIKE = 0.01  # how far two measurements of one base may be apart on other machines


class Entry(Record):
    """One model in a table of several."""

    name: str  # org/name, or a folder's name
    base: str  # the base's Hub id or identity: only entries of one base are comparable
    method: str  # the method's name in recipes, and the adapter's; unknown for a model of strangers
    form: str  # the format on disk
    nominal_bits: float | None  # by which the method's paper calls it
    stored_bits: float | None  # a weight of the quantized linears, counted from the bytes
    model_bits: float  # a parameter of the whole file
    weight_bytes: int
    perplexities: dict[str, float]  # by data set
    base_perplexities: dict[str, float]
    recovery: Interval | None  # of the mean accuracy
    divergence: Interval | None  # mean KL divergence from the base, nats
    agreement: float | None  # share of tokens with the same likeliest next one
    tokens_per_second: float | None
    base_tokens_per_second: float | None

    @field_validator("divergence", mode="before")
    @classmethod
    def _of_before(cls, value: object) -> object:
        """Read the bare number that records of before hold."""
        return {"value": value} if isinstance(value, int | float) else value


def entry(measured: Measured) -> Entry:
    """Put a report in one row."""
    perplexities = [each for each in measured.measurements if each.metric == "perplexity"]
    fidelity, efficiency = measured.fidelity, measured.efficiency
    return Entry(
        **_files(measured),
        perplexities={each.dataset: each.value for each in perplexities},
        base_perplexities={each.dataset: each.base for each in perplexities},
        recovery=measured.overall.recovery if measured.overall else None,
        divergence=fidelity.result.mean if fidelity else None,
        agreement=fidelity.result.agreement.value if fidelity else None,
        tokens_per_second=efficiency.result.tokens_per_second.value if efficiency else None,
        base_tokens_per_second=efficiency.base.tokens_per_second.value if efficiency else None,
    )


def _files(measured: Measured) -> dict[str, object]:
    """Say what a model is and takes: by its plan, or by its files."""
    if isinstance(measured, Report):
        plan = measured.plan
        return {
            "name": plan.repo,
            "base": plan.base_model or plan.source,
            "method": _made_by(measured),
            "form": plan.recipe["format"],
            "nominal_bits": plan.nominal_bits,
            "stored_bits": measured.linear_bits,
            "model_bits": measured.model_bits,
            "weight_bytes": measured.weight_bytes,
        }
    assert isinstance(measured, Assessment), "there are two kinds of what was measured"
    subject = measured.subject
    return {
        "name": subject.name,
        "base": measured.base.name,
        "method": UNKNOWN,
        "form": subject.form,
        "nominal_bits": None,
        "stored_bits": None,
        "model_bits": subject.model_bits,
        "weight_bytes": subject.weight_bytes,
    }


def _made_by(report: Report) -> str:
    """Name a release's method, and its adapter where it has one."""
    method = str(report.plan.recipe["method"]["name"])
    return f"{method} + {report.adaptation.name}" if isinstance(report, AdaptedReport) else method


class Family(Record):
    """Models that can be ranked: of one base, and measured alike."""

    base: Entry  # the base as a model among them
    entries: tuple[Entry, ...]  # fewest bits of the whole file first


def families(measured: Iterable[Measured]) -> list[Family]:
    """Put models side by side that were measured on the same texts beside the same base."""
    groups: list[list[Measured]] = []
    for each in measured:
        known = (group for group in groups if all(_is_comparable(each, one) for one in group))
        group = next(known, None)
        if group is None:
            groups.append([each])
        else:
            group.append(each)
    return [_family(group) for group in groups]


def _family(group: Sequence[Measured]) -> Family:
    entries = sorted(map(entry, group), key=lambda each: (each.model_bits, each.name))
    return Family(base=_base_entry(group), entries=tuple(entries))


def _is_comparable(one: Measured, other: Measured) -> bool:
    """Tell whether two reports are about one base and one way to measure.

    The base's own perplexities show it: another text, other windows or other weights give others.
    """
    first, second = entry(one), entry(other)
    if _unpinned(first.base) != _unpinned(second.base):
        return False
    if one.fidelity and other.fidelity and _text(one) != _text(other):
        return False
    common = first.base_perplexities.keys() & second.base_perplexities.keys()
    return all(
        math.isclose(first.base_perplexities[text], second.base_perplexities[text], rel_tol=ALIKE)
        for text in common
    )


def _text(measured: Measured) -> tuple[str, str, int]:
    """Return on what next-token distributions were compared."""
    assert measured.fidelity is not None
    return measured.fidelity.dataset, measured.fidelity.version, measured.fidelity.result.tokens


def _unpinned(name: str) -> str:
    """Leave the commit out of a base's name."""
    return name.partition("@")[0]


def _base_entry(group: Sequence[Measured]) -> Entry:
    """Put the base of some reports in one row; it was measured in each of them."""
    first, entries = group[0], [entry(each) for each in group]
    floors = [each.fidelity.floor for each in group if each.fidelity and each.fidelity.floor]
    speeds = [each.base_tokens_per_second for each in entries]
    known = {text: value for each in entries for text, value in each.base_perplexities.items()}
    return Entry(
        **_base_files(first),
        perplexities=known,
        base_perplexities=known,
        recovery=Interval(value=1) if any(each.overall for each in group) else None,
        divergence=floors[0].mean if floors else None,
        agreement=floors[0].agreement.value if floors else None,
        tokens_per_second=next((each for each in speeds if each is not None), None),
        base_tokens_per_second=next((each for each in speeds if each is not None), None),
    )


def _base_files(measured: Measured) -> dict[str, object]:
    """Say what a base is and takes."""
    name = entry(measured).base
    found = {"name": name, "base": name, "method": "base", "form": "dense", "nominal_bits": None}
    if isinstance(measured, Report):
        plan = measured.plan
        known = DTYPES.get(plan.dtype)
        return found | {
            "stored_bits": 8 * known.width if known else None,
            "model_bits": 8 * plan.base_bytes / plan.parameters,
            "weight_bytes": plan.base_bytes,
        }
    assert isinstance(measured, Assessment), "there are two kinds of what was measured"
    base = measured.base
    return found | {
        "stored_bits": None,
        "model_bits": base.model_bits,
        "weight_bytes": base.weight_bytes,
    }
