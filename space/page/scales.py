"""Axes: where a value lies in a picture, and at which round values to draw a line."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

ROUND = (1, 2, 5)  # times a power of ten
COARSER = (ROUND, (1, 3), (1,))  # for ever longer logarithmic axes
SPREAD = 6.0  # from so many times the least value on, an axis of positive values is logarithmic
WIDEST = 1e12  # between the ends of an axis, so that there are few powers of ten


@dataclass(frozen=True)
class Scale:
    """A straight map from the values `low` to `high` to the pixels `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; one beyond the ends stays at the end."""
        low, high, at = (self._bent(each) for each in (self.low, self.high, value))
        share = min(max((at - low) / (high - low), 0.0), 1.0)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round values between the ends, at most so many."""
        if self.is_log:
            return self._logarithmic_ticks(most)
        step = _step((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        return [each * step for each in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _logarithmic_ticks(self, most: int) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        inside: list[float] = []
        for factors in COARSER:
            every = [factor * 10.0**power for power in powers for factor in factors]
            inside = [each for each in every if self.low <= each <= self.high]
            if len(inside) <= most:
                return inside
        return inside[:: math.ceil(len(inside) / most)]

    def _bent(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.is_log else value


def fitted(values: Iterable[float], start: float, end: float, *, may_be_log: bool = False) -> Scale:
    """Return a scale that holds all values with some room around them."""
    finite = [each for each in values if math.isfinite(each)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if may_be_log and low > 0 and SPREAD < high / low < WIDEST:
        room = (high / low) ** 0.08
        return Scale(low / room, high * room, start, end, is_log=True)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return Scale(low - room, high + room, start, end)


def _step(least: float) -> float:
    """Return the smallest round step that is no less."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(each * power for each in (*ROUND, 10) if each * power >= least * (1 - 1e-9))
