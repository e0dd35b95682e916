"""What the model lost: accuracies, perplexities and fidelity, each beside its noise."""

from typing import NamedTuple

from hubq.cards.spelling import ranged
from hubq.evaluate.report import Divergence, Measured, Measurement
from hubq.figures import NOT_MEASURED, number, percent, recovery, share


class Section(NamedTuple):
    """One table of accuracies."""

    title: str
    rows: list[Measurement]


def perplexities(measured: Measured) -> list[Measurement]:
    """Return the perplexities."""
    return [each for each in measured.measurements if each.metric == "perplexity"]


def accuracies(measured: Measured) -> list[Section]:
    """Return the other measurements by dimension, without those of which nothing was measured."""
    others = [each for each in measured.measurements if each.metric != "perplexity"]
    sections = [
        Section(
            "Knowledge and capacity", [each for each in others if each.dimension == "knowledge"]
        ),
        Section("Alignment", [each for each in others if each.dimension == "alignment"]),
    ]
    return [each for each in sections if each.rows]


def kept(measurement: Measurement) -> str:
    """Write the share of the base's quality that is left, with its interval where it is known."""
    known = measurement.recovery
    return percent(recovery(measurement)) if known is None else share(known)


def flips(measurement: Measurement) -> str:
    """Write how many answers turned wrong and how many right."""
    found = measurement.flips
    return NOT_MEASURED if found is None else f"{number(found.lost)} / {number(found.won)}"


class Fact(NamedTuple):
    """One line of the table of fidelity."""

    title: str
    result: str
    floor: str


def fidelity(measured: Measured) -> list[Fact]:
    """Compare how far the result is from its base with how far the base's dtype takes itself."""
    found = measured.fidelity
    if found is None:
        return []

    def floor(spelled: str) -> str:
        return spelled if found.floor else NOT_MEASURED

    result, own = found.result, found.floor or found.result
    return [
        Fact("KL divergence, mean", ranged(result.mean), floor(ranged(own.mean))),
        Fact("KL divergence, median", number(result.median), floor(number(own.median))),
        Fact("KL divergence, 99th percentile", *_tails(result, own, floor=bool(found.floor))),
        Fact("same likeliest token", share(result.agreement), floor(share(own.agreement))),
        Fact("tokens compared", number(result.tokens), floor(number(own.tokens))),
    ]


def _tails(result: Divergence, own: Divergence, *, floor: bool) -> tuple[str, str]:
    return number(result.percentile_99), number(own.percentile_99) if floor else NOT_MEASURED


def headline(measured: Measured) -> str:
    """Answer in a sentence or two whether the quality is still there; only from measurements."""
    closeness = _of_fidelity(measured) or _of_perplexity(measured)
    said = [each for each in (_of_tasks(measured), closeness) if each]
    return " ".join(said) or f"Its quality: {NOT_MEASURED}."


def _of_tasks(measured: Measured) -> str:
    """Say what is left of the mean accuracy, and whether chance explains the difference."""
    overall = measured.overall
    if overall is None:
        return ""
    low, high = overall.difference.low, overall.difference.high
    tasks = f"{number(len(overall.accuracies))} task{'s' if len(overall.accuracies) > 1 else ''}"
    said = f"It keeps {share(overall.recovery)} of the base's mean accuracy over {tasks}"
    if low is None or high is None:
        return f"{said}; the noise of that is not known."
    if low <= 0 <= high:
        return f"{said}, which differs from the base's by no more than chance explains."
    return f"{said}: {'less' if high < 0 else 'more'} than the base by more than chance explains."


def _of_fidelity(measured: Measured) -> str:
    found = measured.fidelity
    if found is None:
        return ""
    return (
        f"{percent(found.result.agreement.value)} of its likeliest next tokens are the base's, "
        f"and its mean KL divergence from it is {number(found.result.mean.value)} nats."
    )


def _of_perplexity(measured: Measured) -> str:
    found = perplexities(measured)
    if not found:
        return ""
    return (
        f"Its perplexity on {found[0].dataset} is {number(found[0].value)}, "
        f"the base's {number(found[0].base)}."
    )


def title(measurement: Measurement) -> str:
    """Name what was measured: the task with its metric, once where both are called the same."""
    if measurement.task == measurement.metric:
        return measurement.task
    return f"{measurement.task}, {measurement.metric}"
