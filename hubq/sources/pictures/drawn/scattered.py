"""Shapes of different colours scattered over a picture: what several kinds ask about."""

from collections.abc import Iterable
from random import Random
from typing import NamedTuple

from hubq.sources.pictures.drawn.canvas import CELLS, COLORS, SHAPES, Canvas, somewhere_in


class Thing(NamedTuple):
    """A shape at a cell; no other thing of its picture has its shape or its colour."""

    shape: str
    color: str
    column: int
    row: int


def told(things: Iterable[Thing]) -> str:
    """Name things from the top to the bottom."""
    ordered = sorted(things, key=lambda thing: thing.row)
    return ", ".join(f"{thing.color} {thing.shape}" for thing in ordered)


def scattered(pick: Random, count: int) -> tuple[Canvas, list[Thing]]:
    """Draw so many shapes, at most four, each in a column and a row of its own."""
    canvas = Canvas(pick)
    shapes, colors = pick.sample(list(SHAPES), count), pick.sample(list(COLORS), count)
    columns, rows = pick.sample(range(CELLS), count), pick.sample(range(CELLS), count)
    for shape, color, *cell in zip(shapes, colors, columns, rows, strict=True):
        canvas.shape(shape, somewhere_in(pick, *cell), COLORS[color])
    return canvas, list(map(Thing, shapes, colors, columns, rows))
