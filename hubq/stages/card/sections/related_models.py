"""The siblings: a table of all releases of one base, and advice that follows from its front."""

from collections.abc import Callable
from typing import NamedTuple

from hubq.machine.files import gigabytes
from hubq.records.number_format import number, ranged, share
from hubq.records.report import Report
from hubq.records.vocabulary import PUBLIC_HUB
from hubq.stages.card.sections.markdown import cell, listed
from hubq.stages.compare import pareto
from hubq.stages.compare.comparison import Entry, entry
from hubq.stages.compare.pareto import CLEARLY_FEWER, Point, better, is_clearly_less, overlap
from hubq.stages.compare.reports import Siblings


class Relative(NamedTuple):
    """One line of the table of siblings."""

    name: str  # org/name
    short: str  # without what all names begin with
    is_this: bool
    method: str
    form: str
    bits: str  # nominal, stored, whole file
    size: str
    loss: str
    recovery: str
    is_front: bool


def all_of(report: Report, siblings: Siblings) -> list[Entry]:
    """Return this model and its siblings, fewest bits of the whole file first."""
    every = [entry(report), *siblings.entries]
    return sorted(every, key=lambda each: (each.model_bits, each.name))


def compared(report: Report, siblings: Siblings) -> pareto.Axes | None:
    """Return what the family can be compared by; None without siblings or measurements."""
    if not siblings.entries:
        return None
    found = pareto.axes(all_of(report, siblings), report.plan.repo)
    return found if found and len(found.points) > 1 else None


def relatives(report: Report, siblings: Siblings) -> list[Relative]:
    """Return the lines of the table; none where there are no siblings."""
    if not siblings.entries:
        return []
    found = compared(report, siblings)
    front = found.front if found else []
    every = all_of(report, siblings)
    names = pareto.short_names([each.name for each in every])
    return [
        Relative(
            name=each.name,
            short=names[each.name],
            is_this=each.name == report.plan.repo,
            method=each.method,
            form=each.form,
            bits=" / ".join(map(number, (each.nominal_bits, each.stored_bits, each.model_bits))),
            size=gigabytes(each.weight_bytes),
            loss=ranged(found.points[each.name].loss)
            if found and each.name in found.points
            else "",
            recovery=share(each.recovery) if each.recovery else "",
            is_front=each.name in front,
        )
        for each in every
    ]


def advice(report: Report, siblings: Siblings) -> list[str]:
    """Say which to choose, by the front alone: nothing that the numbers do not say."""
    found, this = compared(report, siblings), report.plan.repo
    if found is None:
        return []
    forms = {each.name: each.form for each in all_of(report, siblings)}
    return [
        _about_this(found, this, forms),
        *_indistinct(found, this),
        *_smaller(found, this),
        *_closer(found, this),
    ]


def _about_this(found: pareto.Axes, this: str, forms: dict[str, str]) -> str:
    """Say whether another clearly beats it; of several, the one that loses least."""
    if (best := better(found, this)) is None:
        return _unbeaten(found, this)
    where = "" if forms[best] == forms[this] else f", wherever the format {forms[best]} loads"
    return f"Take {_spelled(found, best)} rather than this one ({_facts(found, this)}){where}."


def _unbeaten(found: pareto.Axes, this: str) -> str:
    """Say that none beats it: more cautiously where one of about its bits loses about as much."""
    most = found.points[this].bits / CLEARLY_FEWER
    if any(found.points[name].bits <= most for name in _alike(found, this)):
        return f"No other release is clearly better than **this one** ({_facts(found, this)})."
    facts = _facts(found, this)
    return f"No other release loses as little with as few bits as **this one** ({facts})."


def _indistinct(found: pareto.Axes, this: str) -> list[str]:
    """Name those that can't be told from this one by their loss, but the one that is advised."""
    names = [name for name in _alike(found, this) if name != better(found, this)]
    if not names:
        return []
    said = listed([_spelled(found, name) for name in names])
    return [f"No clear difference in loss, because the intervals overlap: {said}."]


def _alike(found: pareto.Axes, this: str) -> list[str]:
    """Name the others whose intervals overlap with this one's."""
    own = found.points[this].loss
    return [
        name for name, point in found.points.items() if name != this and overlap(own, point.loss)
    ]


def _smaller(found: pareto.Axes, this: str) -> list[str]:
    """Name the next one on the front with fewer bits, which clearly loses more."""
    own = found.points[this]
    fewer = _on_front(
        found, lambda point: point.bits < own.bits and is_clearly_less(own.loss, point.loss)
    )
    return [f"Smaller, but losing more: {_spelled(found, fewer[-1])}."] if fewer else []


def _closer(found: pareto.Axes, this: str) -> list[str]:
    """Name the next one on the front that clearly loses less, with more bits."""
    own = found.points[this]
    more = _on_front(
        found, lambda point: point.bits > own.bits and is_clearly_less(point.loss, own.loss)
    )
    return [f"Larger, but losing less: {_spelled(found, more[0])}."] if more else []


def _on_front(found: pareto.Axes, holds: Callable[[Point], bool]) -> list[str]:
    return [name for name in found.front if holds(found.points[name])]


def _spelled(found: pareto.Axes, name: str) -> str:
    short = pareto.short_names(list(found.points))[name]
    return f"[{cell(short)}]({PUBLIC_HUB}/{name}) ({_facts(found, name)})"


def _facts(found: pareto.Axes, name: str) -> str:
    bits, loss = found.points[name]
    return f"{number(loss.value)} at {number(bits)} bits"
