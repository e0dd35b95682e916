"""Pages with lines of text, to be read."""

from collections.abc import Iterator

from hubq.sources.pictures.drawn.canvas import CELL, CELLS, COLORS, Canvas
from hubq.sources.pictures.drawn.drawn import Drawn, dice

KEYS = "KLMNPRSTUVXZ"  # none is the letter of an option
WORDS = (
    *("BAG", "BED", "BOX", "BUS", "CAR", "CAT", "CUP", "DOG", "EGG", "FAN", "FOX", "HAT"),
    *("ICE", "JAR", "KEY", "LEG", "MAP", "NUT", "OWL", "PEN", "PIG", "SUN", "TEA", "ZOO"),
)
LINES = 3


def documents(seed: int, count: int) -> Iterator[Drawn]:
    """Draw pages of three lines: a small letter, and a word or a number of three digits.

    Chance is 1/24 for words and 1/900 for numbers, each as frequent as the others; what counts
    half right by Levenshtein's distance makes it a little more.
    """
    for number in range(count):
        pick = dice("documents", seed, number)
        canvas = Canvas(pick)
        keys, colors = pick.sample(KEYS, LINES), pick.sample(list(COLORS), LINES)
        rows = sorted(pick.sample(range(CELLS), LINES))
        numbers = map(str, pick.sample(range(100, 1000), LINES))
        texts = list(numbers if number % 2 else pick.sample(WORDS, LINES))
        for key, text, color, row in zip(keys, texts, colors, rows, strict=True):
            canvas.glyph(key, (4, CELL * row + 4), COLORS[color])
            for column, letter in enumerate(text, start=1):
                canvas.glyph(letter, (CELL * column + 2, CELL * row), COLORS[color], scale=2)
        asked = pick.randrange(LINES)
        by = (f"in line {keys[asked]}", f"in {colors[asked]}")[number // 2 % 2]
        told = ", ".join(map(" ".join, zip(keys, texts, strict=True)))
        question = f"What is written {by}?"
        yield Drawn(canvas.picture(), question, (texts[asked],), caption=told)
