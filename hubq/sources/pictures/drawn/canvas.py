"""A canvas of 4 x 4 cells to draw on, pixel by pixel: no two machines draw it differently."""

from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

CELL = 14  # pixels
CELLS = 4
SIZE = CELL * CELLS
Color = tuple[int, int, int]

COLORS: Mapping[str, Color] = {
    "red": (214, 31, 38),
    "green": (23, 140, 56),
    "blue": (30, 71, 214),
    "orange": (245, 145, 20),
    "purple": (140, 40, 170),
    "black": (20, 20, 20),
}
GREY: Color = (150, 150, 150)

# A shape covers the pixels of 11 x 11, from -5 to 5, that its claim is true of.
REACH = 5
SHAPES: Mapping[str, Callable[[int, int], bool]] = {
    "square": lambda x, y: max(abs(x), abs(y)) <= 4,
    "circle": lambda x, y: x * x + y * y <= 26,
    "triangle": lambda x, y: 2 * abs(x) <= y + REACH,
    "cross": lambda x, y: min(abs(x), abs(y)) <= 1,
    "diamond": lambda x, y: abs(x) + abs(y) <= REACH,
}

# Letters of 5 x 7 pixels: five columns from the left, in each the lowest bit is the top pixel.
GLYPHS: Mapping[str, str] = {
    **{"0": "3e5149453e", "1": "00427f4000", "2": "4261514946", "3": "2141454b31"},
    **{"4": "1814127f10", "5": "2745454539", "6": "3c4a494930", "7": "0171090503"},
    **{"8": "3649494936", "9": "064949291e", "A": "7e1111117e", "B": "7f49494936"},
    **{"C": "3e41414122", "D": "7f4141221c", "E": "7f49494941", "F": "7f09090901"},
    **{"G": "3e4149497a", "H": "7f0808087f", "I": "00417f4100", "J": "2040413f01"},
    **{"K": "7f08142241", "L": "7f40404040", "M": "7f020c027f", "N": "7f0408107f"},
    **{"O": "3e4141413e", "P": "7f09090906", "Q": "3e4151215e", "R": "7f09192946"},
    **{"S": "4649494931", "T": "01017f0101", "U": "3f4040403f", "V": "1f2040201f"},
    **{"W": "3f4038403f", "X": "6314081463", "Y": "0708700807", "Z": "6151494543"},
}


class Canvas:
    """56 x 56 pixels, at first all of one pale colour."""

    def __init__(self, pick: Random) -> None:
        """Choose the ground, which also keeps pictures of few things apart."""
        self._pixels = bytearray(bytes(pick.randrange(236, 256) for _ in range(3)) * SIZE**2)

    def fill(self, left: int, top: int, size: tuple[int, int], color: Color) -> None:
        """Paint a rectangle of width and height."""
        width, height = size
        for y in range(top, top + height):
            start = 3 * (SIZE * y + left)
            self._pixels[start : start + 3 * width] = bytes(color) * width

    def shape(self, name: str, center: tuple[int, int], color: Color) -> None:
        """Paint a shape of SHAPES around a pixel."""
        covers, (left, top) = SHAPES[name], center
        for y in range(-REACH, REACH + 1):
            for x in range(-REACH, REACH + 1):
                if covers(x, y):
                    self.fill(left + x, top + y, (1, 1), color)

    def glyph(self, letter: str, place: tuple[int, int], color: Color, scale: int = 1) -> None:
        """Paint a letter or digit of GLYPHS, 5 x 7 pixels times scale, from its upper left."""
        left, top = place
        for x, column in enumerate(bytes.fromhex(GLYPHS[letter])):
            for y in range(7):
                if column >> y & 1:
                    self.fill(left + scale * x, top + scale * y, (scale, scale), color)

    def picture(self) -> "Image":
        """Return the picture, as RGB."""
        from PIL import Image

        return Image.frombytes("RGB", (SIZE, SIZE), bytes(self._pixels))


def somewhere_in(pick: Random, column: int, row: int) -> tuple[int, int]:
    """Return a center for a shape in a cell, such that it lies within."""
    space = CELL - 2 * REACH  # pixels that the center can be at
    return (
        CELL * column + REACH + pick.randrange(space),
        CELL * row + REACH + pick.randrange(space),
    )
