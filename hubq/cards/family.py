"""The siblings: a table of all releases of one base, and advice that follows from its front."""

from typing import NamedTuple

from hubq import choice
from hubq.comparison import Entry, entry
from hubq.disk import gigabytes
from hubq.evaluate import Report
from hubq.figures import number, share
from hubq.siblings import Siblings


class Relative(NamedTuple):
    """One line of the table of siblings."""

    name: str
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


def compared(report: Report, siblings: Siblings) -> choice.Axes | None:
    """Return what the family can be compared by; None without siblings or measurements."""
    if not siblings.entries:
        return None
    found = choice.axes(all_of(report, siblings), report.plan.repo)
    return found if found and len(found.points) > 1 else None


def relatives(report: Report, siblings: Siblings) -> list[Relative]:
    """Return the lines of the table; none where there are no siblings."""
    if not siblings.entries:
        return []
    found = compared(report, siblings)
    front = found.front if found else []
    return [
        Relative(
            name=each.name,
            is_this=each.name == report.plan.repo,
            method=each.method,
            form=each.form,
            bits=" / ".join(map(number, (each.nominal_bits, each.stored_bits, each.model_bits))),
            size=gigabytes(each.weight_bytes),
            loss=number(found.points[each.name][1]) if found and each.name in found.points else "",
            recovery=share(each.recovery) if each.recovery else "",
            is_front=each.name in front,
        )
        for each in all_of(report, siblings)
    ]


def advice(report: Report, siblings: Siblings) -> list[str]:
    """Say which to choose, by the front alone: nothing that the numbers do not say."""
    found, this = compared(report, siblings), report.plan.repo
    if found is None:
        return []
    forms = {each.name: each.form for each in all_of(report, siblings)}
    return [*_about_this(found, this, forms), *_smaller(found, this), *_closer(found, this)]


def _about_this(found: choice.Axes, this: str, forms: dict[str, str]) -> list[str]:
    """Say whether another loses no more with no more bits; of several, the one that loses least."""
    bits, loss = found.points[this]
    if this in found.front:
        return ["None of the others loses as little with as few bits as this one."]
    better = [
        name
        for name in found.front
        if found.points[name][0] <= bits and found.points[name][1] <= loss
    ]
    best = min(better, key=lambda name: found.points[name][1])
    where = "" if forms[best] == forms[this] else f", wherever its format ({forms[best]}) loads"
    return [f"Take {_spelled(found, best)} rather than this one ({_facts(found, this)}){where}."]


def _smaller(found: choice.Axes, this: str) -> list[str]:
    """Name the next one on the front with fewer bits, which loses more."""
    bits, loss = found.points[this]
    fewer = [
        name
        for name in found.front
        if found.points[name][0] < bits and found.points[name][1] > loss
    ]
    return [f"Smaller, and losing more: {_spelled(found, fewer[-1])}."] if fewer else []


def _closer(found: choice.Axes, this: str) -> list[str]:
    """Name the next one on the front that loses less, with more bits."""
    bits, loss = found.points[this]
    more = [
        name
        for name in found.front
        if found.points[name][0] > bits and found.points[name][1] < loss
    ]
    return [f"Larger, and losing less: {_spelled(found, more[0])}."] if more else []


def _spelled(found: choice.Axes, name: str) -> str:
    return f"{name} ({_facts(found, name)})"


def _facts(found: choice.Axes, name: str) -> str:
    bits, loss = found.points[name]
    return f"{number(bits)} bits, {found.loss} {number(loss)}"
