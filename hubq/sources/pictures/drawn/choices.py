"""Pictures of shapes with a choice of two to four options."""

from collections.abc import Iterator

from hubq.sources.pictures.drawn.canvas import COLORS, SHAPES
from hubq.sources.pictures.drawn.drawn import Drawn, dice, offered
from hubq.sources.pictures.drawn.scattered import scattered, told

MOST = 4  # options


def choices(seed: int, count: int) -> Iterator[Drawn]:
    """Draw three shapes and ask for the colour of one, or for the shape of a colour.

    Chance is 1/n with n options, which are two, three and four in turn, each letter right equally
    often: 13/36 over all. Who must be right in each order of the options, has (1/n)^n.
    """
    for number in range(count):
        pick = dice("choices", seed, number)
        canvas, things = scattered(pick, 3)
        asked, *_ = things
        about, case = number % 2, number // 2
        size = 2 + case % (MOST - 1)
        right, known = ((asked.color, COLORS), (asked.shape, SHAPES))[about]
        wrong = pick.sample([name for name in known if name != right], size - 1)
        options, letter = offered(pick, right, wrong, case // (MOST - 1) % size)
        what = (f"color is the {asked.shape}", f"shape is {asked.color}")[about]
        question = f"What {what}?"
        yield Drawn(canvas.picture(), question, (letter,), options, caption=told(things))
