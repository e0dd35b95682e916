"""Bar charts: what value a bar has, and which bar is the highest or the lowest."""

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

from hubq.sources.pictures.drawn.canvas import CELL, CELLS, COLORS, GREY, SIZE, Canvas
from hubq.sources.pictures.drawn.drawn import Drawn, dice

if TYPE_CHECKING:
    from PIL.Image import Image

VALUES = range(1, 10)
UNIT = 5  # pixels of height for a value of 1
ENDS = {"highest": max, "lowest": min}


def charts(seed: int, count: int) -> Iterator[Drawn]:
    """Draw charts of four bars with their values above; ask for a value, or for a colour.

    Chance is 1/9 for values, each as frequent as the others, and 1/6 for colours (1/4 for one who
    sees which are there).
    """
    for number in range(count):
        pick = dice("charts", seed, number)
        about, which = number % 2, number // 2
        yield _value(pick, which) if about == 0 else _end(pick, which)


def _value(pick: Random, which: int) -> Drawn:
    asked = VALUES[which % len(VALUES)]
    rest = pick.sample([value for value in VALUES if value != asked], CELLS - 1)
    bars = _bars(pick, [asked, *rest])
    color = next(color for color, value in bars.items() if value == asked)
    question = f"What is the value of the {color} bar?"
    return Drawn(_chart(pick, bars), question, (str(asked),), caption=_told(bars))


def _end(pick: Random, which: int) -> Drawn:
    bars = _bars(pick, pick.sample(VALUES, CELLS))
    end = list(ENDS)[which % len(ENDS)]
    color = ENDS[end](bars, key=bars.__getitem__)
    question = f"Which color has the {end} bar?"
    return Drawn(_chart(pick, bars), question, (color,), caption=_told(bars))


def _told(bars: dict[str, int]) -> str:
    return ", ".join(f"{color} {value}" for color, value in bars.items())


def _bars(pick: Random, values: list[int]) -> dict[str, int]:
    """Give each value a colour, in any order from the left."""
    return dict(zip(pick.sample(list(COLORS), CELLS), pick.sample(values, CELLS), strict=True))


def _chart(pick: Random, bars: dict[str, int]) -> "Image":
    canvas = Canvas(pick)
    canvas.fill(0, SIZE - 1, (SIZE, 1), GREY)
    for column, (color, value) in enumerate(bars.items()):
        left, top = CELL * column + pick.randrange(1, 4), SIZE - 1 - UNIT * value
        canvas.fill(left, top, (10, UNIT * value), COLORS[color])
        canvas.glyph(str(value), (left + 3, top - 8), COLORS["black"])
    return canvas.picture()
