"""Diagrams: letters with lines to the parts that they name."""

from collections.abc import Iterator

from hubq.sources.pictures.drawn.canvas import (
    CELL,
    CELLS,
    COLORS,
    GREY,
    SHAPES,
    Canvas,
    somewhere_in,
)
from hubq.sources.pictures.drawn.documents import KEYS
from hubq.sources.pictures.drawn.drawn import LETTERS, Drawn, dice, offered


def diagrams(seed: int, count: int) -> Iterator[Drawn]:
    """Draw four parts with a letter beside each, and ask which part a letter marks.

    Chance is 1/4: each letter of an option is right equally often.
    """
    for number in range(count):
        pick = dice("diagrams", seed, number)
        canvas = Canvas(pick)
        keys, parts = pick.sample(KEYS, CELLS), pick.sample(list(SHAPES), CELLS)
        for row, (key, part) in enumerate(zip(keys, parts, strict=True)):
            at = pick.randrange(2)  # the column of the letter; then a line, then the part
            canvas.glyph(key, (CELL * at + 4, CELL * row + 4), COLORS["black"])
            canvas.fill(CELL * (at + 1), CELL * row + 7, (CELL, 1), GREY)
            canvas.shape(part, somewhere_in(pick, at + 2, row), COLORS[pick.choice(list(COLORS))])
        asked = pick.randrange(CELLS)
        wrong = [part for part in parts if part != parts[asked]]
        options, letter = offered(pick, parts[asked], wrong, number % len(LETTERS))
        question = f"Which part does the letter {keys[asked]} mark?"
        told = ", ".join(map(" ".join, zip(keys, parts, strict=True)))
        yield Drawn(canvas.picture(), question, (letter,), options, caption=told)
