"""Pictures that a seed draws, each with a question whose answer is in the picture.

In come a seed and a count; out come pictures of 56 x 56 pixels, the same bytes on every machine, as
all is drawn here pixel by pixel, with letters of its own. It may import nothing else of hubq;
Pillow is imported inside functions.
"""

from collections.abc import Callable, Iterator, Mapping

from hubq.sources.pictures.drawn.charts import charts
from hubq.sources.pictures.drawn.choices import choices
from hubq.sources.pictures.drawn.diagrams import diagrams
from hubq.sources.pictures.drawn.documents import documents
from hubq.sources.pictures.drawn.drawn import Drawn
from hubq.sources.pictures.drawn.yes_no import yes_no

__all__ = ["DRAWN", "Drawn"]

# A kind's name -> what draws so many pictures of it from a seed. The first pictures of a seed are
# the same however many are asked for.
DRAWN: Mapping[str, Callable[[int, int], Iterator[Drawn]]] = {
    "charts": charts,  # a number or a colour
    "documents": documents,  # a word or a number of the text
    "diagrams": diagrams,  # four options
    "choices": choices,  # two to four options
    "yes_no": yes_no,  # Yes or No; two questions a picture
}
