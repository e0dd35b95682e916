"""The table of all models: numbers that sort as numbers, spelled as everywhere in hubq."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from releases.models import Released, brief

from hubq.cards.spelling import ranged
from hubq.disk import gigabytes
from hubq.figures import NOT_MEASURED, number, share

Cell = tuple[float | str | None, str]  # what it is sorted by, and what is shown


class Column(NamedTuple):
    """One column: its heading, and what it says of a model."""

    heading: str
    cell: Callable[[Released], Cell]


class Table(NamedTuple):
    """Rows for sorting and, of the same shape, texts for showing."""

    headers: list[str]
    rows: list[list[float | str | None]]
    texts: list[list[str]]

    @property
    def datatypes(self) -> list[Literal["str", "markdown"]]:
        """Name the type of each column, as a gr.Dataframe calls it: only links are markdown."""
        return ["markdown" if heading in LINKS else "str" for heading in self.headers]

    def for_dataframe(self) -> dict[str, Any]:
        """Return the value of a gr.Dataframe, which sorts by the rows and shows the texts."""
        plain = [[""] * len(self.headers) for _ in self.rows]
        metadata = {"display_value": self.texts, "styling": plain}
        return {"headers": self.headers, "data": self.rows, "metadata": metadata}


def table(models: Iterable[Released]) -> Table:
    """Put models side by side, one in a row."""
    every = list(models)
    several = len({each.base for each in every}) > 1
    columns = (*BEFORE, *[BASE] * several, *_perplexities(every), *AFTER)
    cells = [[column.cell(each) for column in columns] for each in every]
    return Table(
        headers=[column.heading for column in columns],
        rows=[[value for value, _ in row] for row in cells],
        texts=[[text for _, text in row] for row in cells],
    )


def _perplexities(models: Iterable[Released]) -> list[Column]:
    """Return a column for each text that any model was measured on."""

    def column(text: str) -> Column:
        heading = f"perplexity {brief(text)}"
        return Column(heading, lambda model: _number(model.entry.perplexities.get(text)))

    texts = dict.fromkeys(text for each in models for text in each.entry.perplexities)
    return [column(text) for text in texts]


def _number(value: float | None) -> Cell:
    return value, number(value)


def _recovery(model: Released) -> Cell:
    if model.is_base:
        return 1.0, "100 % (the base)"
    found = model.entry.recovery
    return (None, NOT_MEASURED) if found is None else (found.value, share(found))


def _divergence(model: Released) -> Cell:
    """Say how far a model is from its base, and the base from itself in twice the precision."""
    found = model.entry.divergence
    if model.is_base:
        return (0.0, "the base") if found is None else (found.value, f"{ranged(found)}, its dtype")
    return (None if found is None else found.value), ranged(found)


def _method(model: Released) -> Cell:
    return model.entry.method, "the base" if model.is_base else model.entry.method


def _linked(title: str, url: str | None) -> Cell:
    link = f"[{title}]({url})" if url else ""
    return link, link


BEFORE = (
    Column("model", lambda model: (model.name, model.name)),
    Column("method", _method),
    Column("stored bits", lambda model: _number(model.entry.stored_bits)),
    Column("whole-file bits", lambda model: _number(model.entry.model_bits)),
    Column("size", lambda model: (model.entry.weight_bytes, gigabytes(model.entry.weight_bytes))),
)
BASE = Column("base", lambda model: (model.base, model.base))
AFTER = (
    Column("recovery (95 %)", _recovery),
    Column("KL divergence", _divergence),
    Column("tokens a second", lambda model: _number(model.entry.tokens_per_second)),
    Column("card", lambda model: _linked("card", model.card_url)),
    Column("recipe", lambda model: _linked("recipe", model.recipe_url)),
)
LINKS = ("card", "recipe")
