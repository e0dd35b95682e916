"""Which of several models nothing beats, where each loss has its noise: noise makes no winner.

Two losses are told apart where their 95 % intervals don't overlap; without intervals their values
decide. The intervals are taken as independent, though the models read the same text: what is not
told apart may be a difference, never the reverse.
"""

from collections.abc import Sequence
from typing import NamedTuple

from hubq.records.report import Interval

CLEARLY_FEWER = 0.99  # of the other's bits: less than that is headers and the like


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
