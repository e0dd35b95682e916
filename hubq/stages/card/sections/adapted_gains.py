"""What adapting gained: the 16-bit base, the quantized model and the adapted one side by side."""

from typing import NamedTuple

from hubq.records.adaptation import HeldOut
from hubq.records.adapted_report import AdaptedReport
from hubq.records.number_format import (
    NONE,
    NOT_MEASURED,
    difference,
    judged,
    number,
    ranged,
    signed,
    uncertain,
)
from hubq.records.report import Interval, Measured, Measurement
from hubq.stages.card.sections.evaluation import title
from hubq.stages.card.sections.markdown import listed


class Row(NamedTuple):
    """One measurement of the three models."""

    title: str
    items: str
    base: str
    quantized: str
    adapted: str
    gained: str  # adapted - quantized, and what that is
    beyond: str  # adapted - base


def rows(report: AdaptedReport) -> list[Row]:
    """Put the three models side by side, in all that was measured of the adapted one."""
    found = [_row(report, each) for each in report.measurements]
    return [*found, *_mean(report), *_divergence(report)]


def _row(report: AdaptedReport, each: Measurement) -> Row:
    before, change = _same(report.unadapted, each), _same(report.gained, each)
    what = f"perplexity, {each.dataset}" if each.metric == "perplexity" else title(each)
    return Row(
        title=f"{'↳ ' if report.is_member(each) else ''}{what}",
        items=number(each.samples),
        base=uncertain(each.base, each.base_stderr),
        quantized=uncertain(before.value, before.stderr) if before else NOT_MEASURED,
        adapted=uncertain(each.value, each.stderr),
        gained=_judged(change) if change else NOT_MEASURED,
        beyond=_judged(each),
    )


def _same(measured: Measured, wanted: Measurement) -> Measurement | None:
    """Find what was measured alike of another pair of models."""
    alike = (
        each
        for each in measured.measurements
        if (each.task, each.metric, each.dataset) == (wanted.task, wanted.metric, wanted.dataset)
    )
    return next(alike, None)


def _judged(measurement: Measurement) -> str:
    return f"{difference(measurement)}, {judged(measurement)}"


def _mean(report: AdaptedReport) -> list[Row]:
    """Return the mean accuracies, where all three are over the same tasks."""
    after, before, change = report.overall, report.unadapted.overall, report.gained.overall
    if after is None:
        return []
    alike = before is not None and before.accuracies == after.accuracies
    paired = change is not None and change.accuracies == after.accuracies
    return [
        Row(
            title=f"**mean of {number(len(after.accuracies))}**",
            items="",
            base=number(after.base),
            quantized=number(before.value) if before and alike else NONE,
            adapted=number(after.value),
            gained=signed(change.difference) if change and paired else NONE,
            beyond=signed(after.difference),
        )
    ]


def _divergence(report: AdaptedReport) -> list[Row]:
    """Return how far quantized and adapted predictions are from the base's."""
    after, before = report.fidelity, report.unadapted.fidelity
    if after is None:
        return []
    return [
        Row(
            title="KL divergence from the base, nats",
            items=number(after.result.tokens),
            base=f"{number(after.floor.mean.value)} (floor)" if after.floor else NONE,
            quantized=ranged(before.result.mean) if before else NOT_MEASURED,
            adapted=ranged(after.result.mean),
            gained=NONE,
            beyond=NONE,
        )
    ]


def gained(report: AdaptedReport) -> str:
    """Say in a few sentences what adapting was good for, as far as that was measured."""
    parts = [_of_pairs(report.adaptation.held_out), _of_tasks(report), _of_fidelity(report)]
    return " ".join(each for each in parts if each) or f"What it gained: {NOT_MEASURED}."


def _of_pairs(found: HeldOut | None) -> str:
    if found is None:
        return ""
    return (
        f"On {number(found.pairs)} pairs that it did not learn from, its loss is "
        f"{number(found.after)} nats per token, and {number(found.before)} before"
        f"{by_chance(found.difference)}."
    )


def _of_tasks(report: AdaptedReport) -> str:
    found = report.gained.overall
    if found is None:
        return ""
    same = report.overall is not None and found.accuracies == report.overall.accuracies
    mean = "mean accuracy" if same else f"mean of {listed(list(found.accuracies))}"
    return (
        f"Its {mean} differs by {signed(found.difference)} from that of the quantized "
        f"model{by_chance(found.difference)}."
    )


def _of_fidelity(report: AdaptedReport) -> str:
    """Say of a correction how much nearer it is; of what learns, that is no measure."""
    after, before = report.fidelity, report.unadapted.fidelity
    if report.adaptation.taught is not None or after is None or before is None:
        return ""
    return (
        f"Its mean KL divergence from the base is {number(after.result.mean.value)} nats, and "
        f"{number(before.result.mean.value)} before."
    )


def by_chance(interval: Interval) -> str:
    """Say of a difference that chance explains it, or that this isn't known; else nothing."""
    if interval.low is None or interval.high is None:
        return "; how much of that is noise is not known"
    return ", no more than chance explains" if interval.low <= 0 <= interval.high else ""
