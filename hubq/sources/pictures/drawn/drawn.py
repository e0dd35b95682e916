"""What is drawn: a picture, and a question with its answers."""

from random import Random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image

LETTERS = "ABCD"  # of options


class Drawn(NamedTuple):
    """A picture and a question about it, of one of the kinds of DRAWN."""

    picture: "Image"  # 56 x 56 pixels, RGB
    question: str  # without the options, and without how to answer
    answers: tuple[str, ...]  # any is right; with options it is the letter of the right one
    options: tuple[str, ...] = ()  # the texts to choose from, in the order of LETTERS
    group: str = ""  # the same for questions that count together: those about one picture
    caption: str = ""  # all that is in the picture, row by row or column by column


def dice(kind: str, seed: int, number: int) -> Random:
    """Return what decides on one picture of a kind, and on no other."""
    return Random(f"{kind} {seed} {number}")


def offered(pick: Random, right: str, wrong: list[str], place: int) -> tuple[tuple[str, ...], str]:
    """Return options with the right one at a place, the others shuffled, and its letter."""
    shuffled = pick.sample(wrong, len(wrong))
    options = (*shuffled[:place], right, *shuffled[place:])
    return options, LETTERS[place]
