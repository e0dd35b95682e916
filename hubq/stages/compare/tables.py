"""Families of models as tables: their columns and notes, for a README, a page and machines."""

import csv as separated
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from hubq.machine.files import gigabytes
from hubq.records.number_format import number, ranged, share
from hubq.records.recipe_inputs import TEXT_SUFFIXES
from hubq.records.report import Interval
from hubq.stages.compare.comparison import UNKNOWN, Entry, Family
from hubq.stages.compare.pareto import DIVERGENCE, axes, short_names

FRONT = "*"
NOTHING = "-"
BITS = (
    "Bits: nominal, as in the paper; stored: per weight of the quantized linears; file: per "
    "parameter of the whole file."
)


class Column(NamedTuple):
    """A heading and its cells: the base's, then one for each model."""

    heading: str
    cells: list[str]

    @property
    def width(self) -> int:
        """The characters of its widest line."""
        lines = (line for cell in self.cells for line in cell.split("\n"))
        return max(map(len, (self.heading, *lines)))

    @property
    def is_empty(self) -> bool:
        """Whether nobody measured it."""
        return set(self.cells[1:]) <= {NOTHING}


def columns(family: Family) -> list[Column]:
    """Return all columns but the marks of the front; those that nobody measured stay out."""
    rows = (family.base, *family.entries)
    found = [
        Column("model", ["base", *_names(family.entries)]),
        Column("method", ["", *map(_made_by, family.entries)]),
        Column("bits", [_plain(each.nominal_bits) for each in rows]),
        Column("stored", [_number(each.stored_bits) for each in rows]),
        Column("file", [_number(each.model_bits) for each in rows]),
        Column("size", [gigabytes(each.weight_bytes) for each in rows]),
    ]
    for text, heading in headings(family).items():
        found.append(Column(heading, [_number(each.perplexities.get(text)) for each in rows]))
    found += [
        Column("recovery", [_recovery(each) for each in rows]),
        Column("KL", [_divergence(each) for each in rows]),
        Column("tokens/s", [_speed(each) for each in rows]),
    ]
    return [each for each in found if not each.is_empty]


def _names(entries: Sequence[Entry]) -> list[str]:
    """Shorten the names of models, without their commits where they stay apart."""
    full = [each.name for each in entries]
    bare = [name.partition("@")[0] for name in full]
    chosen = bare if len(set(bare)) == len(bare) else full
    return list(short_names(chosen).values())


def _made_by(entry: Entry) -> str:
    """Name the method, or the format on disk where nobody said how it was made."""
    return entry.form if entry.method == UNKNOWN else entry.method


def headings(family: Family) -> dict[str, str]:
    """Shorten the titles of texts, where they stay apart."""
    texts = dict.fromkeys(text for each in family.entries for text in each.perplexities)
    short = {text: _heading(text) for text in texts}
    return short if len(set(short.values())) == len(short) else {text: text for text in texts}


def _heading(title: str) -> str:
    bare = PurePosixPath(title.partition(" (")[0])
    if bare.suffix not in TEXT_SUFFIXES:
        return str(bare)
    return bare.parent.name or bare.stem


def _plain(value: float | None) -> str:
    return NOTHING if value is None else f"{value:g}"


def _number(value: float | None) -> str:
    return NOTHING if value is None else number(value)


def _recovery(entry: Entry) -> str:
    return NOTHING if entry.recovery is None else share(entry.recovery)


def _divergence(entry: Entry) -> str:
    return NOTHING if entry.divergence is None else ranged(entry.divergence)


def _speed(entry: Entry) -> str:
    """Write tokens a second, and how many times the base's these are: both of one run."""
    own, base = entry.tokens_per_second, entry.base_tokens_per_second
    if own is None or not base or entry.name == entry.base:
        return _number(own)
    return f"{number(own)} ({own / base:.2f}x)"


def marks(family: Family) -> list[str]:
    """Return the base's mark and each model's: who is on the front."""
    compared = axes(family.entries)
    on_front = set(compared.front) if compared else set()
    return ["", *(FRONT if each.name in on_front else "" for each in family.entries)]


def notes(family: Family, mark: str = FRONT) -> Iterator[str]:
    """Say what a table is about."""
    compared = axes(family.entries)
    yield BITS
    texts = (f"{heading} is perplexity on {text}" for text, heading in headings(family).items())
    if said := "; ".join(texts):
        yield f"{said}."
    if compared is None:
        yield "No front: these models have no measurement in common."
        return
    loss, cost = compared.loss, compared.cost
    yield (
        f"{mark} marks the front: no other clearly beats it, by less {loss} at no more "
        f"{cost}; where 95 % intervals overlap, no difference is clear."
    )
    others = len(family.entries) - len(compared.points)
    if others:
        yield f"Not ranked: {others} without a measured {loss}."
    if loss == DIVERGENCE and family.base.divergence is not None:
        yield "The base's KL divergence is its noise: its own dtype compared with float32."
    if any(each.tokens_per_second is not None for each in family.entries):
        yield (
            "x: times the base's tokens/s in the same run; numbers of different "
            "runs can't be compared."
        )


def markdown(family: Family) -> str:
    """Return a table for a README; the names of those on the front are bold."""
    shown = columns(family)
    lines = [[each.heading for each in shown]]
    lines.append(["---" if each.heading in ("model", "method") else "---:" for each in shown])
    for mark, name, *cells in zip(marks(family), *(each.cells for each in shown), strict=True):
        lines.append([f"**{name}**" if mark else name, *cells])
    said = " ".join(notes(family, "Bold"))
    rows = (f"| {' | '.join(_escaped(line))} |" for line in lines)
    return "\n".join([f"{family.base.name}\n", *rows, "", said, ""])


def _escaped(cells: Iterable[str]) -> Iterator[str]:
    return (cell.replace("|", "\\|") for cell in cells)


def plain(families: Iterable[Family]) -> list[dict[str, Any]]:
    """Return families as JSON values: entries with their places, and what they are ranked by."""
    return [
        {
            "base": family.base.model_dump(mode="json"),
            "ranked_by": _ranked_by(family),
            "models": [
                {**each.model_dump(mode="json"), "front": is_front}
                for each, is_front in zip(family.entries, fronts(family), strict=True)
            ],
        }
        for family in families
    ]


def _ranked_by(family: Family) -> dict[str, str] | None:
    compared = axes(family.entries)
    return None if compared is None else {"cost": compared.cost, "loss": compared.loss}


def fronts(family: Family) -> list[bool | None]:
    """Tell of each model whether it is on the front; None: it is not ranked."""
    compared = axes(family.entries)
    if compared is None:
        return [None] * len(family.entries)
    return [
        each.name in compared.front if each.name in compared.points else None
        for each in family.entries
    ]


def csv(families: Sequence[Family]) -> str:
    """Return all models and bases as comma-separated values."""
    rows = [
        _flat(each, is_front)
        for family in families
        for each, is_front in zip(
            (family.base, *family.entries), (None, *fronts(family)), strict=True
        )
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    into = StringIO()
    writer = separated.DictWriter(into, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return into.getvalue()


def _flat(entry: Entry, is_front: bool | None) -> dict[str, object]:
    """Put an entry in one row, with a column for each text and for each end of an interval."""
    inside = {"recovery", "divergence", "perplexities", "base_perplexities"}
    return {
        **entry.model_dump(exclude=inside),
        **_ends("recovery", entry.recovery),
        **_ends("divergence", entry.divergence),
        **{f"perplexity on {text}": value for text, value in entry.perplexities.items()},
        "front": is_front,
    }


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    known = {} if interval is None else interval.model_dump()
    ends = {name: "value", f"{name}_low": "low", f"{name}_high": "high"}
    return {column: known.get(end) for column, end in ends.items()}
