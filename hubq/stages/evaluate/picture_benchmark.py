"""The contract of a task on pictures: what is asked about which pictures, and how it is scored.

A task is a `Benchmark` in a file of its own in `picture_tasks/`, whose name recipes use. Plain
records, importable without torch or Pillow.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from hubq.sources.pictures.rows import Row

if TYPE_CHECKING:
    from hubq.sources.pictures.drawn import Drawn


class HubData(NamedTuple):
    """A data set of the Hub with a column of pictures."""

    repo: str
    split: str
    subset: str | None = None

    @property
    def title(self) -> str:
        """Name it for people."""
        return f"{self.repo}{f' {self.subset}' if self.subset else ''} ({self.split})"


class Drawing(NamedTuple):
    """Pictures that a seed draws."""

    kind: str  # in hubq/sources/pictures/drawn
    most: int  # pictures that are asked about

    @property
    def title(self) -> str:
        """Name it for people."""
        return f"drawn {self.kind.replace('_', '/')}"


class Item(NamedTuple):
    """One question about one picture."""

    prompt: str
    right: tuple[str, ...]  # answers; none: the data has none, so that the item is left out
    options: tuple[tuple[str, str], ...] = ()  # letters and texts to choose from
    group: str = ""  # items of a group are scored together; empty: it is scored alone
    part: str = ""  # of the task, such as a category
    name: str = ""  # of the row, where the data gives it one

    @property
    def complete(self) -> bool:
        """Whether it can be asked and scored."""
        return bool(self.prompt and self.right)


class Answered(NamedTuple):
    """An item and what a model said."""

    item: Item
    text: str  # without white space around it


Unit = Sequence[Answered]  # what is scored together: one item, or a group


class Number(NamedTuple):
    """A metric of a task, or of a part of it."""

    metric: str
    items: tuple[float, ...]  # what each unit gives, or each question of it
    answers: tuple[str, ...]  # what was said to each
    part: str | None = None  # None: the whole task
    chance: float | None = None  # what guessing gives
    strata: tuple[int, ...] = ()  # of each item; then the value is the sum of the strata's means
    remark: str = ""  # what else its protocol says

    @property
    def value(self) -> float:
        """Return what is reported."""
        if not self.strata:
            return fmean(self.items)
        return sum(fmean(each) for each in self.by_stratum())

    def by_stratum(self) -> list[list[float]]:
        """Gather the items of each stratum; all in one where there are none."""
        found: dict[int, list[float]] = {}
        for stratum, value in zip(self.strata or (0,) * len(self.items), self.items, strict=True):
            found.setdefault(stratum, []).append(value)
        return list(found.values())


class Benchmark:
    """A task on pictures."""

    data: ClassVar[HubData | Drawing]
    new_tokens: ClassVar[int]  # that a model may write
    rule: ClassVar[str]  # how answers are scored, as a report says it
    columns: ClassVar[tuple[str, ...]] = ()  # of the data, the picture's apart
    optional: ClassVar[tuple[str, ...]] = ()
    asked_by: ClassVar[str] = "items"  # what a limit counts
    limited_by_part: ClassVar[bool] = False  # whether it counts them of each part

    def item(self, row: Row) -> Item:
        """Read a row of the data; raise UserError for one that the task can't be asked with."""
        raise NotImplementedError

    def drawn(self, number: int, each: "Drawn") -> Iterator[Item]:
        """Yield what is asked about a drawn picture."""
        raise NotImplementedError

    def check(self, units: Sequence[Sequence[Item]]) -> None:
        """Raise UserError for data whose units are not what they should be."""

    def numbers(self, units: Sequence[Unit]) -> Iterator[Number]:
        """Score all that was answered, the headline first."""
        raise NotImplementedError


def said(units: Sequence[Unit]) -> tuple[str, ...]:
    """Return what was said in each unit."""
    return tuple("\n".join(each.text for each in unit) for unit in units)


def parts(units: Sequence[Unit]) -> dict[str, list[Unit]]:
    """Gather units by their part, in the order in which these come."""
    found: dict[str, list[Unit]] = {}
    for unit in units:
        found.setdefault(unit[0].item.part, []).append(unit)
    return found
