"""Which of several models to take: what each costs beside what it lost, and who is on the front.

On the front is what no other model beats, and noise makes no winner. Two losses are told apart
where their 95 % intervals don't overlap; without intervals their values decide. The intervals are
taken as independent, though the models read the same text: what is not told apart may be a
difference, never the reverse.

The cost is the whole file: two models with the same bits in their linears may differ in those of
their embeddings, and what a reader pays for is all of it. The loss is the divergence from the base
where it was measured, else a perplexity; whichever more of the models have, and always one that the
model in question has.
"""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

from hubq.records.report import Interval
from hubq.stages.compare.comparison import Entry

CLEARLY_FEWER = 0.99  # of the other's bits: less than that is headers and the like
COST = "stored bits per parameter of the whole file"
DIVERGENCE = "KL divergence from the base"


class Point(NamedTuple):
    """What a model costs and what it lost: less is better in both."""

    bits: float
    loss: Interval


def overlap(one: Interval, other: Interval) -> bool | None:
    """Tell whether two intervals overlap; None: one of them is not known."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return None
    return one.low <= other.high and other.low <= one.high


def is_clearly_less(one: Interval, other: Interval) -> bool:
    """Tell whether a value is less than another by more than noise, as far as that is known."""
    return one.value < other.value and not overlap(one, other)


def dominates(one: Point, other: Point) -> bool:
    """Tell whether one is at least as good in both, and clearly better in one of them."""
    if one.bits > other.bits or one.loss.value > other.loss.value:
        return False
    if is_clearly_less(one.loss, other.loss):
        return True
    exact = overlap(one.loss, other.loss) is None
    return one.bits < other.bits * (1 if exact else CLEARLY_FEWER)


def front(points: Sequence[Point]) -> list[bool]:
    """Tell which of several points no other dominates."""
    return [not any(dominates(other, point) for other in points) for point in points]


class Axes(NamedTuple):
    """What a comparison is by: bits against loss, less is better in both."""

    cost: str  # what the bits are of
    loss: str  # the loss in words
    points: dict[str, Point]  # by name, fewest bits first
    base: float | None  # the base's own loss, where it is not zero

    @property
    def front(self) -> list[str]:
        """Name the models that no other dominates."""
        kept = front(list(self.points.values()))
        return [name for name, is_kept in zip(self.points, kept, strict=True) if is_kept]


def axes(entries: Sequence[Entry], this: str | None = None) -> Axes | None:
    """Return what these models can be compared by; None where nothing was measured of `this`."""
    losses = [each for each in _losses(entries) if this is None or this in each[1]]
    if not losses:
        return None
    title, values, base = max(losses, key=lambda each: len(each[1]))
    found = {
        each.name: Point(each.model_bits, values[each.name])
        for each in entries
        if each.name in values
    }
    ordered = sorted(found.items(), key=lambda each: (each[1].bits, each[1].loss.value))
    return Axes(COST, title, dict(ordered), base)


def better(found: Axes, name: str) -> str | None:
    """Name the one that clearly beats another and loses least; on the front if one there does."""
    own = found.points[name]
    beating = [each for each, point in found.points.items() if dominates(point, own)]
    best = [each for each in beating if each in found.front] or beating
    return min(best, key=lambda each: found.points[each].loss.value, default=None)


def _losses(
    entries: Sequence[Entry],
) -> Iterable[tuple[str, dict[str, Interval], float | None]]:
    """List every loss that some of the models have: its title, the values, and the base's."""
    divergences = {each.name: each.divergence for each in entries if each.divergence is not None}
    if divergences:
        yield DIVERGENCE, divergences, None
    for text in dict.fromkeys(text for each in entries for text in each.perplexities):
        known = {
            each.name: Interval(value=each.perplexities[text])
            for each in entries
            if text in each.perplexities
        }
        bases = {each.base_perplexities[text] for each in entries if text in each.perplexities}
        yield f"perplexity on {text}", known, bases.pop() if len(bases) == 1 else None


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Drop the organization, and what all the names begin with, where something is left."""
    bare = {name: name.rpartition("/")[2] for name in names}
    parts = [short.split("-") for short in bare.values()]
    shared = sum(1 for _ in takewhile(lambda each: len(set(each)) == 1, zip(*parts, strict=False)))
    return {name: "-".join(short.split("-")[shared:]) or short for name, short in bare.items()}
