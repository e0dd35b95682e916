"""SVG as text: the few shapes that the charts need, every text escaped, and their axes.

The colours are those of the page, so that a chart is right in the light and in the dark. Gradio
expands `${...}` and `{{...}}` of what it shows as HTML, so braces and dollars are escaped too.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

INK = "var(--body-text-color)"
FAINT = "var(--border-color-primary)"
PAPER = "var(--background-fill-primary)"
# Okabe and Ito's, which colour-blind people tell apart; without what vanishes on white or black.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LETTER = 0.56  # of the font's size: the mean width of a character
SMALL = 11  # pixels
BRACES = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;"})
ROUND = (1, 2, 5)  # times a power of ten
COARSER = (ROUND, (1, 3), (1,))  # for ever longer logarithmic axes
SPREAD = 6.0  # from so many times the least value on, an axis of positive values is logarithmic
WIDEST = 1e12  # between the ends of an axis, so that there are few powers of ten


def safe(text: str) -> str:
    """Escape a text for the inside of an element or a quoted attribute."""
    return escape(text, quote=True).translate(BRACES)


def figure(width: float, height: float, about: str, parts: Iterable[str]) -> str:
    """Return a picture that takes the width it gets, with words for those who can't see it."""
    inside = "".join(parts)
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="group" aria-label="{safe(about)}" '
        'style="width:100%;max-width:640px;height:auto;display:block;margin:auto" '
        f'font-family="inherit" font-size="{SMALL}" fill="{INK}">{inside}</svg>'
    )


def line(
    start: tuple[float, float],
    end: tuple[float, float],
    color: str = FAINT,
    *,
    dashed: bool = False,
) -> str:
    """Return a straight line."""
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    (x1, y1), (x2, y2) = start, end
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"{dashes}/>'
    )


def path(points: Iterable[tuple[float, float]], color: str) -> str:
    """Return a line through points."""
    through = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{through}" fill="none" stroke="{color}" stroke-width="1.5"/>'


def words(x: float, y: float, text: str, *, anchor: str = "start", turned: bool = False) -> str:
    """Return a line of text; `turned` ones are read from below."""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{safe(text)}</text>'


def dot(x: float, y: float, color: str, *, filled: bool = True, radius: float = 5.0) -> str:
    """Return a round mark."""
    fill = color if filled else PAPER
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}" stroke="{color}" '
        'stroke-width="2"/>'
    )


def button(model: str, about: str, inside: str, at: tuple[float, float]) -> str:
    """Return a mark that can be pressed, by finger and keyboard, and says what it is."""
    x, y = at
    target = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="13" fill="transparent"/>'
    return (
        f'<g role="button" tabindex="0" data-model="{safe(model)}" aria-label="{safe(about)}" '
        f'style="cursor:pointer"><title>{safe(about)}</title>{target}{inside}</g>'
    )


def mark(about: str, inside: str) -> str:
    """Return a mark that says what it is."""
    return f'<g role="img" aria-label="{safe(about)}"><title>{safe(about)}</title>{inside}</g>'


def extent(text: str) -> float:
    """Return about how wide a text is."""
    return len(text) * LETTER * SMALL


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
