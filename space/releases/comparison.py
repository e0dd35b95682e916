"""Released models side by side by their reports: which is closest, which are the front, the table.

Which model of so many bits is closest to its base is said in a sentence, with how sure that is.
The table has numbers that sort as numbers, spelled as everywhere in hubq.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from hubq.machine.files import gigabytes
from hubq.records.number_format import NOT_MEASURED, number, percent, ranged, share
from hubq.records.report import Interval, Measurement
from hubq.stages.compare.pareto import Point as Place
from hubq.stages.compare.pareto import front, overlap
from releases.models import Released, brief

_by_divergence = (" nats per token", "mean KL divergence")
_by_perplexity = (" times the base's", "perplexity (KL divergence was not measured)")
Cell = tuple[float | str | None, str]  # what it is sorted by, and what is shown
LINKS = ("card", "recipe")


class Distance(NamedTuple):
    """How far a model is from its base, by one measure on one text: less is closer."""

    model: Released
    value: Interval
    text: tuple[str, str, str]  # data set, version and protocol: only equal ones are comparable


def widths(models: Iterable[Released]) -> list[int]:
    """List the bits, in whole numbers, by which the models are called."""
    return sorted({bits for each in models if (bits := _width(each)) is not None})


def _width(model: Released) -> int | None:
    nominal = model.entry.nominal_bits
    return None if nominal is None or model.is_base else round(nominal)


def closest(models: Iterable[Released], bits: int) -> tuple[Released | None, str]:
    """Return the model of so many bits that is closest to the base, and say why.

    The measure is the mean KL divergence from the base; where no report has it, the growth of
    perplexity. All models have to be of one base: distances from two are not comparable.
    """
    every = [each for each in models if _width(each) == bits]
    if len(bases := sorted({each.base for each in every})) > 1:
        return None, f"Choose a base first: these are quantizations of {' and '.join(bases)}."
    if not every:
        return None, f"There is no model with {bits} bits here."
    if ranked := _comparable(_divergences(every)):
        return ranked[0].model, _sentence(ranked, len(every), _by_divergence)
    if ranked := _comparable(_perplexity_growths(every)):
        return ranked[0].model, _sentence(ranked, len(every), _by_perplexity)
    return None, f"How far the models with {bits} bits are from the base was not measured."


def _divergences(models: Iterable[Released]) -> list[Distance]:
    return [
        Distance(each, each.divergence, (fidelity.dataset, fidelity.version, fidelity.protocol))
        for each in models
        if each.divergence is not None and (fidelity := each.measured.fidelity) is not None
    ]


def _perplexity_growths(models: Iterable[Released]) -> list[Distance]:
    """Return how many times the base's each perplexity is."""
    return [
        Distance(each, _growth(one), (one.dataset, one.version, one.protocol))
        for each in models
        for one in each.measured.measurements
        if one.metric == "perplexity"
    ]


def _growth(measurement: Measurement) -> Interval:
    base, difference = measurement.base, measurement.difference
    bounds = (difference.low, difference.high) if difference else (None, None)
    low, high = (None if each is None else 1 + each / base for each in bounds)
    return Interval(value=measurement.value / base, low=low, high=high)


def _comparable(distances: Iterable[Distance]) -> list[Distance]:
    """Return the distances on the text that most models share, the closest model first."""
    texts: dict[tuple[str, str, str], list[Distance]] = {}
    for each in distances:
        texts.setdefault(each.text, []).append(each)
    most: list[Distance] = max(texts.values(), key=len, default=[])
    return sorted(most, key=lambda each: each.value.value)


def _sentence(ranked: Sequence[Distance], count: int, measure: tuple[str, str]) -> str:
    first = ranked[0]
    unit, name = measure
    text = brief(first.text[0])
    said = (
        f"**{first.model.name}** is closest to {first.model.base}: its {name} on {text} "
        f"is {_spelled(first.value)}{unit}{_agreement(first.model)}."
    )
    unmeasured = count - len(ranked)
    left_out = f" {unmeasured} more can't be compared: not measured on this text." * (
        unmeasured > 0
    )
    return f"{said} {_runner_up(ranked)}{left_out}"


def _agreement(model: Released) -> str:
    share = model.entry.agreement
    if share is None:
        return ""
    return f", and its most likely next token is the base's in {percent(share)} of places"


def _runner_up(ranked: Sequence[Distance]) -> str:
    """Say who follows, and whether the two can be told apart."""
    if len(ranked) == 1:
        return "No other model of this width was measured this way."
    first, second = ranked[:2]
    known = overlap(first.value, second.value)
    verdict = {
        None: "whether that is more than noise is not known",
        True: "within the noise, so the two can't be told apart by this",
        False: "beyond the noise",
    }[known]
    return f"{second.model.name} follows with {_spelled(second.value)}: {verdict}."


def _spelled(value: Interval) -> str:
    """Write a value with its interval, where that is known."""
    if value.low is None or value.high is None:
        return number(value.value)
    return f"{number(value.value)} (95 %: {number(value.low)} to {number(value.high)})"


class Quality(NamedTuple):
    """A measure to look at models by."""

    name: str
    of: Callable[[Released], Interval | None]
    spelled: Callable[[float | None], str]
    lower_is_better: bool


class Point(NamedTuple):
    """A model in the chart."""

    model: Released
    bits: float
    value: Interval
    is_front: bool


def qualities(models: Iterable[Released]) -> list[Quality]:
    """List the measures that any model has, the most telling first."""
    every = list(models)
    texts = dict.fromkeys(text for each in every for text in each.entry.perplexities)
    known = [
        Quality("KL divergence", lambda model: model.divergence, number, lower_is_better=True),
        *(_perplexity(text) for text in texts),
        Quality("recovery", lambda model: model.entry.recovery, percent, lower_is_better=False),
    ]
    return [each for each in known if any(each.of(model) for model in every if not model.is_base)]


def _perplexity(text: str) -> Quality:
    def value(model: Released) -> Interval | None:
        found = model.entry.perplexities.get(text)
        return None if found is None else Interval(value=found)

    return Quality(f"perplexity {brief(text)}", value, number, lower_is_better=True)


def points(models: Iterable[Released], quality: Quality) -> list[Point]:
    """Return the models that have both, and which of them no other clearly beats."""
    found = [
        (each, each.entry.stored_bits, value)
        for each in models
        if not each.is_base
        and each.entry.stored_bits is not None
        and (value := quality.of(each)) is not None
    ]
    is_front = front([Place(bits, loss_of(value, quality)) for _, bits, value in found])
    return [Point(*each, on) for each, on in zip(found, is_front, strict=True)]


def loss_of(value: Interval, quality: Quality) -> Interval:
    """Turn a value around where more is better."""
    if quality.lower_is_better:
        return value
    low, high = (None if end is None else -end for end in (value.high, value.low))
    return Interval(value=-value.value, low=low, high=high)


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
    columns = (*BEFORE, *[BASE] * several, *_perplexity_columns(every), *AFTER)
    cells = [[column.cell(each) for column in columns] for each in every]
    return Table(
        headers=[column.heading for column in columns],
        rows=[[value for value, _ in row] for row in cells],
        texts=[[text for _, text in row] for row in cells],
    )


def _perplexity_columns(models: Iterable[Released]) -> list[Column]:
    """Return a column for each text that any model was measured on."""

    def column(text: str) -> Column:
        heading = f"perplexity {brief(text)}"
        return Column(heading, lambda model: _number(model.entry.perplexities.get(text)))

    texts = dict.fromkeys(text for each in models for text in each.entry.perplexities)
    return [column(text) for text in texts]


def _number(value: float | None) -> Cell:
    return value, number(value)


def _recovery_cell(model: Released) -> Cell:
    if model.is_base:
        return 1.0, "100 % (the base)"
    found = model.entry.recovery
    return (None, NOT_MEASURED) if found is None else (found.value, share(found))


def _divergence_cell(model: Released) -> Cell:
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
    Column("recovery (95 %)", _recovery_cell),
    Column("KL divergence", _divergence_cell),
    Column("tokens a second", lambda model: _number(model.entry.tokens_per_second)),
    Column("card", lambda model: _linked("card", model.card_url)),
    Column("recipe", lambda model: _linked("recipe", model.recipe_url)),
)
