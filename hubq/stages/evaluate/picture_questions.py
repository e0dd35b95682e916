"""What of a task's data is asked: its items by what is scored together, within a limit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.progress import Advance
from hubq.records.recipe_inputs import DatasetSection
from hubq.sources.pictures.drawn import DRAWN
from hubq.sources.pictures.rows import pictures, rows
from hubq.sources.texts.hub import Located, fetched, located
from hubq.stages.evaluate.picture_benchmark import (
    Answered,
    Benchmark,
    Drawing,
    HubData,
    Item,
    Unit,
)

if TYPE_CHECKING:
    from PIL.Image import Image

Answer = Callable[["Image", str], str]  # what a model says to a picture and a text


class Entry(NamedTuple):
    """An item, and the number of the picture that it is about."""

    picture: int
    item: Item


class Wanted(NamedTuple):
    """Which part of a task is asked."""

    limit: int | None = None  # units, of each part where the task says so
    seed: int | None = None  # of what is drawn
    revision: str | None = None  # the commit of what lies on the Hub


@dataclass(frozen=True)
class Questions:
    """The items that are asked, and how to come by their pictures."""

    units: Sequence[Sequence[Entry]]
    left_out: int  # items without a question or an answer, and those that belong to them
    pictures: "Callable[[frozenset[int]], Iterator[tuple[int, Image]]]"

    def __len__(self) -> int:
        """Count the items."""
        return sum(map(len, self.units))

    def answered(self, answer: Answer, advance: Advance) -> list[Unit]:
        """Ask all of them, in the order of their pictures."""
        asked: dict[int, list[Entry]] = {}
        for entry in (each for unit in self.units for each in unit):
            asked.setdefault(entry.picture, []).append(entry)
        texts: dict[Entry, str] = {}
        for number, picture in self.pictures(frozenset(asked)):
            for entry in asked[number]:
                texts[entry] = answer(picture, entry.item.prompt).strip()
                advance(1)
        return [tuple(Answered(entry.item, texts[entry]) for entry in unit) for unit in self.units]


def commit_of(data: HubData, client: Client) -> str:
    """Return the commit at which a data set is now."""
    return _located(data, None, client).pinned.commit


def questions(benchmark: Benchmark, wanted: Wanted, client: Client) -> Questions:
    """Read what a task asks; raise UserError for data that it can't be asked with."""
    if isinstance(benchmark.data, Drawing):
        return _drawn(benchmark, benchmark.data, wanted)
    return _on_hub(benchmark, benchmark.data, wanted, client)


def _on_hub(benchmark: Benchmark, data: HubData, wanted: Wanted, client: Client) -> Questions:
    """Read the questions from the files of a data set."""
    paths = list(fetched(_located(data, wanted.revision, client), client))
    read = rows(paths, benchmark.columns, benchmark.optional)
    entries = [Entry(number, benchmark.item(row)) for number, row in enumerate(read)]
    return _chosen(benchmark, entries, wanted, lambda numbers: pictures(paths, numbers))


def _located(data: HubData, revision: str | None, client: Client) -> Located:
    address = f"{data.repo}@{revision}" if revision else data.repo
    section = DatasetSection(hub=address, subset=data.subset, split=data.split)
    return located(section, client, purpose="evaluation")


def _drawn(benchmark: Benchmark, data: Drawing, wanted: Wanted) -> Questions:
    """Draw pictures for their questions, and once more, the same, when they are asked."""
    seed, count = wanted.seed or 0, min(wanted.limit or data.most, data.most)
    draw = DRAWN[data.kind]
    entries = [
        Entry(number, item)
        for number, each in enumerate(draw(seed, count))
        for item in benchmark.drawn(number, each)
    ]

    def again(numbers: frozenset[int]) -> "Iterator[tuple[int, Image]]":
        for number, each in enumerate(draw(seed, count)):
            if number in numbers:
                yield number, each.picture

    return _chosen(benchmark, entries, wanted, again)


def _chosen(
    benchmark: Benchmark,
    entries: Sequence[Entry],
    wanted: Wanted,
    found: "Callable[[frozenset[int]], Iterator[tuple[int, Image]]]",
) -> Questions:
    """Gather what is scored together, leave out what can't be, and take as much as is asked."""
    gathered = _units(entries)
    complete = [unit for unit in gathered if all(each.item.complete for each in unit)]
    if not complete:
        raise UserError(
            f"{benchmark.data.title} has no items: none of its {len(entries)} rows has a question "
            "and an answer; use another task"
        )
    benchmark.check([[each.item for each in unit] for unit in complete])
    return Questions(
        units=_limited(complete, wanted.limit, by_part=benchmark.limited_by_part),
        left_out=len(entries) - sum(map(len, complete)),
        pictures=found,
    )


def _units(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Gather the items of each group, in the order of its first."""
    units: dict[str | int, list[Entry]] = {}
    for number, entry in enumerate(entries):
        units.setdefault(entry.item.group or number, []).append(entry)
    return list(units.values())


def _limited(
    units: Sequence[Sequence[Entry]], limit: int | None, *, by_part: bool
) -> list[Sequence[Entry]]:
    """Take the first so many units, of each part where that is what the limit counts."""
    if limit is None:
        return list(units)
    taken: dict[str, list[Sequence[Entry]]] = {}
    kept = []
    for unit in units:
        some = taken.setdefault(unit[0].item.part if by_part else "", [])
        if len(some) < limit:
            some.append(unit)
            kept.append(unit)
    return kept
