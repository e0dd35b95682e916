"""A family of models as a table that fits the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hubq.stages.compare.comparison import Family
from hubq.stages.compare.tables import FRONT, NOTHING, Column, columns, marks, notes

if TYPE_CHECKING:
    from rich.table import Table

LEFT_OUT_FIRST = ("size", "tokens/s", "stored", "recovery")  # where the terminal is too narrow


def print_family(family: Family) -> None:
    """Print a table that fits the terminal: in two lines a model where one is too long."""
    from rich.console import Console

    console = Console()
    found = columns(family)
    if _width(found) > console.width:
        found = _in_two_lines(found)
    shown = list(found)
    for heading in LEFT_OUT_FIRST:
        if _width(shown) > console.width:
            shown = [each for each in shown if each.heading != heading]
    console.print(family.base.name, style="bold", highlight=False, markup=False, soft_wrap=True)
    console.print(_table(family, shown))
    left_out = [each.heading for each in found if each not in shown]
    missing = [f"Columns left out for lack of space: {', '.join(left_out)}."] if left_out else []
    console.print(" ".join([*notes(family), *missing]), highlight=False, markup=False)


def _width(shown: Sequence[Column]) -> int:
    """Return how wide a table of these columns is: with the mark, and a blank between all."""
    return len(FRONT) + sum(1 + each.width for each in shown)


def _in_two_lines(found: Sequence[Column]) -> list[Column]:
    """Put the method and its bits below a model's name, and an interval below its value."""
    by_heading = {each.heading: each.cells for each in found}
    methods, bits = by_heading.pop("method"), by_heading.pop("bits", None)
    below = methods if bits is None else list(map(_in_words, methods, bits))
    by_heading["model"] = [
        f"{one}\n{two}" for one, two in zip(by_heading["model"], below, strict=True)
    ]
    for heading in by_heading.keys() & {"recovery", "KL", "tokens/s"}:
        cells = by_heading[heading]
        by_heading[heading] = [each.replace(" (", "\n").removesuffix(")") for each in cells]
    return [Column(heading, cells) for heading, cells in by_heading.items()]


def _in_words(method: str, bits: str) -> str:
    return method if bits == NOTHING else f"{method}, {bits} bits"


def _table(family: Family, shown: Sequence[Column]) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE, show_edge=False, padding=0)
    table.add_column("")
    for column in shown:
        is_text = column.heading in ("model", "method")
        table.add_column(
            column.heading,
            justify="left" if is_text else "right",
            no_wrap=column.heading != "model",
            overflow="fold",
        )
    for mark, *cells in zip(marks(family), *(each.cells for each in shown), strict=True):
        table.add_row(mark, *map(Text, cells))
    return table
