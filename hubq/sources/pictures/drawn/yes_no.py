"""Pictures of shapes with two questions each: to one the answer is Yes, to the other No."""

from collections.abc import Callable, Iterator
from random import Random

from hubq.sources.pictures.drawn.canvas import COLORS, SHAPES
from hubq.sources.pictures.drawn.drawn import Drawn, dice
from hubq.sources.pictures.drawn.scattered import Thing, scattered, told

COUNTS = (2, 3, 4)
Pair = tuple[str, str]  # what is so, and what isn't


def yes_no(seed: int, count: int) -> Iterator[Drawn]:
    """Draw pictures of two to four shapes; ask two questions about each, of the same `group`.

    `count` is that of pictures. Chance is 1/2, and 1/4 for both of a picture: to every question
    Yes is right as often as No.
    """
    for number in range(count):
        pick = dice("yes_no", seed, number)
        canvas, things = scattered(pick, COUNTS[number // len(ASKED) % len(COUNTS)])
        yes, no = ASKED[number % len(ASKED)](pick, things)
        picture, group, caption = canvas.picture(), f"{seed}-{number}", told(things)
        for question, answer in pick.sample(((yes, "Yes"), (no, "No")), 2):
            yield Drawn(picture, question, (answer,), (), group, caption)


def _existence(pick: Random, things: list[Thing]) -> Pair:
    there = [thing.shape for thing in things]
    absent = pick.choice([shape for shape in SHAPES if shape not in there])
    return f"Is there a {there[0]} in the picture?", f"Is there a {absent} in the picture?"


def _color(pick: Random, things: list[Thing]) -> Pair:
    shape, color, *_ = things[0]
    other = pick.choice([name for name in COLORS if name != color])
    return f"Is the {shape} {color}?", f"Is the {shape} {other}?"


def _count(pick: Random, things: list[Thing]) -> Pair:
    other = pick.choice([count for count in COUNTS if count != len(things)])
    return (
        f"Are there {len(things)} shapes in the picture?",
        f"Are there {other} shapes in the picture?",
    )


def _position(pick: Random, things: list[Thing]) -> Pair:
    one, other, *_ = things
    sides = ("left", "right") if one.column < other.column else ("right", "left")
    yes, no = (f"Is the {one.shape} {side} of the {other.shape}?" for side in sides)
    return yes, no


ASKED: tuple[Callable[[Random, list[Thing]], Pair], ...] = (_existence, _color, _count, _position)
