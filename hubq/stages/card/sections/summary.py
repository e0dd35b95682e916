"""The first screen: what it takes and what it keeps, beside the base."""

from typing import NamedTuple

from hubq.machine.device import DTYPES
from hubq.machine.files import gigabytes
from hubq.records.number_format import NONE, NOT_MEASURED, judged, no_floor, number, percent, share
from hubq.records.report import Report
from hubq.stages.card.sections.evaluation import perplexities, tasks_of


class Line(NamedTuple):
    """One line of the table at a glance."""

    title: str
    base: str
    result: str


def lines(report: Report) -> list[Line]:
    """Return the table's lines; what was not measured says so."""
    return [*_size(report), *_cost(report), *_quality(report)]


def _size(report: Report) -> list[Line]:
    plan, checkpoint = report.plan, report.checkpoint
    before = number(8 * DTYPES[plan.dtype].width)
    part = percent(checkpoint.weight_bytes / plan.base_bytes)
    size = f"{gigabytes(checkpoint.weight_bytes)} ({part})"
    bits = (plan.nominal_bits, checkpoint.needed_bits, checkpoint.linear_bits)
    whole = number(8 * plan.base_bytes / plan.parameters)
    return [
        Line("size of the weights on disk", gigabytes(plan.base_bytes), size),
        Line("bits per weight: nominal / needed / stored", before, " / ".join(map(number, bits))),
        Line("bits per parameter of the whole file", whole, number(checkpoint.model_bits)),
    ]


def _cost(report: Report) -> list[Line]:
    found = report.efficiency
    titles = ("memory once loaded", "memory at peak", "tokens per second")
    if found is None:
        return [Line(title, NOT_MEASURED, NOT_MEASURED) for title in titles]
    values = [
        (
            gigabytes(each.memory_loaded),
            gigabytes(each.memory_peak),
            number(each.tokens_per_second.value),
        )
        for each in (found.base, found.result)
    ]
    return [Line(*each) for each in zip(titles, *values, strict=True)]


def _quality(report: Report) -> list[Line]:
    return [*_accuracy(report), *_perplexity(report), *_fidelity(report)]


def _accuracy(report: Report) -> list[Line]:
    overall = report.overall
    if overall is None and any(each.reason == "guessing" for each in report.left_out):
        return [Line("mean accuracy", "no better than guessing", NONE)]
    if overall is None:
        return [Line("accuracy", NOT_MEASURED, NOT_MEASURED)]
    title = f"mean accuracy, {tasks_of(overall)}"
    result = f"{number(overall.value)}, {share(overall.recovery)}"
    return [Line(title, number(overall.base), result)]


def _perplexity(report: Report) -> list[Line]:
    found = perplexities(report)
    if not found:
        return [Line("perplexity", NOT_MEASURED, NOT_MEASURED)]
    return [
        Line(
            f"perplexity, {each.dataset}",
            number(each.base),
            f"{number(each.value)}, {judged(each)}",
        )
        for each in found
    ]


def _fidelity(report: Report) -> list[Line]:
    titles = ("KL divergence from the base, nats", "top-1 agreement with the base")
    found = report.fidelity
    if found is None:
        return [Line(title, NOT_MEASURED, NOT_MEASURED) for title in titles]
    if (floor := found.floor) is None:
        own = (no_floor(report), no_floor(report))
    else:
        own = (f"{number(floor.mean.value)} (floor)", percent(floor.agreement.value))
    result = (number(found.result.mean.value), percent(found.result.agreement.value))
    return [Line(*each) for each in zip(titles, own, result, strict=True)]
