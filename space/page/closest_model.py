"""Which model of so many bits is closest to its base, and how sure that is, in a sentence."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from releases.models import Released, brief

from hubq.evaluate.report import Interval, Measurement
from hubq.figures import number, percent
from hubq.front import overlap


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
        return None, f"There is no model of {bits} bits here."
    if ranked := _comparable(_divergences(every)):
        return ranked[0].model, _sentence(ranked, len(every), _by_divergence)
    if ranked := _comparable(_perplexities(every)):
        return ranked[0].model, _sentence(ranked, len(every), _by_perplexity)
    return None, f"How far the models of {bits} bits are from the base was not measured."


def _divergences(models: Iterable[Released]) -> list[Distance]:
    return [
        Distance(each, each.divergence, (fidelity.dataset, fidelity.version, fidelity.protocol))
        for each in models
        if each.divergence is not None and (fidelity := each.measured.fidelity) is not None
    ]


def _perplexities(models: Iterable[Released]) -> list[Distance]:
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


_by_divergence = (" nats a token", "mean KL divergence")
_by_perplexity = (" times the base's", "perplexity (KL divergence was not measured)")


def _agreement(model: Released) -> str:
    share = model.entry.agreement
    if share is None:
        return ""
    return f", and its likeliest next token is the base's in {percent(share)} of places"


def _runner_up(ranked: Sequence[Distance]) -> str:
    """Say who follows, and whether the two can be told apart."""
    if len(ranked) == 1:
        return "No other model of this width was measured so."
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
