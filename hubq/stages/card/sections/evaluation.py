"""What the model lost: accuracies, perplexities and fidelity, each beside its noise."""

from typing import NamedTuple

from hubq.records.number_format import (
    NONE,
    NOT_MEASURED,
    judged,
    no_floor,
    number,
    percent,
    ranged,
    share,
    within_noise,
)
from hubq.records.report import Measured, Measurement, Overall
from hubq.stages.card.sections.markdown import listed

NOTABLE = 0.05  # share of the time that others may hold our cores without a word


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


def ideal(measurement: Measurement) -> str:
    """Say which value is good, where it is not the highest."""
    return {"higher": "", "lower": ", lower is better", "zero": ", 0 is best"}[measurement.better]


def chance(measurement: Measurement) -> str:
    """Write what guessing gives, or a dash."""
    return NONE if measurement.chance is None else f"{measurement.chance:.2f}"


def left_out(measured: Measured) -> str:
    """Say which accuracies the mean does not take, and why; nothing where it takes all."""
    reasons = {
        "guessing": "because the base itself is no better than guessing",
        "alignment": "because a ruined model may do better there by chance",
    }
    found = {
        reason: [each.accuracy for each in measured.left_out if each.reason == reason]
        for reason in reasons
    }
    parts = [f"{listed(names)}, {reasons[reason]}" for reason, names in found.items() if names]
    return f"Left out of the mean: {'; '.join(parts)}." if parts else ""


def flips(measurement: Measurement) -> str:
    """Write how many answers turned wrong and how many right."""
    found = measurement.flips
    return NOT_MEASURED if found is None else f"{number(found.lost)} / {number(found.won)}"


def unpaired(measured: Measured) -> bool:
    """Tell whether some difference comes without pairs, and so with a wider interval."""
    return any(each.difference and not each.paired for each in measured.measurements)


def comparisons(measured: Measured) -> str:
    """Say how many differences chance alone would make of so many comparisons; nothing of one."""
    count = sum(within_noise(each) is not None for each in measured.measurements)
    if count < 2:
        return ""
    return (
        f"Each of the {number(count)} comparisons is at 95 %: if nothing differed, about one in "
        "twenty would look better or worse by chance alone."
    )


def contention(measured: Measured) -> float | None:
    """Return the share of the time that others held our cores, where it is enough to matter."""
    costs = measured.efficiency
    shares = (each.contention or 0 for each in (costs.base, costs.result)) if costs else ()
    found = max(shares, default=0.0)
    return found if found >= NOTABLE else None


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
        return spelled if found.floor else no_floor(measured)

    result, own = found.result, found.floor or found.result
    tails = number(result.percentile_99), number(own.percentile_99)
    return [
        Fact("KL divergence, mean", ranged(result.mean), floor(ranged(own.mean))),
        Fact("KL divergence, median", number(result.median), floor(number(own.median))),
        Fact("KL divergence, 99th percentile", tails[0], floor(tails[1])),
        Fact(
            "top-1 agreement (same most likely token)",
            share(result.agreement),
            floor(share(own.agreement)),
        ),
        Fact("tokens compared", number(result.tokens), floor(number(own.tokens))),
    ]


def headline(measured: Measured) -> str:
    """Answer in a few sentences whether the quality is still there, the sharpest measure first."""
    closeness = _of_fidelity(measured) or _of_perplexity(measured)
    said = [each for each in (closeness, _of_tasks(measured), _worse(measured)) if each]
    return " ".join(said) or f"Its quality: {NOT_MEASURED}."


def _worse(measured: Measured) -> str:
    """Count the tasks and the texts that are worse beyond noise; nothing where none is."""
    tasks: dict[str, bool] = {}  # a group counts once, with its members
    texts: dict[str, bool] = {}
    for each in measured.measurements:
        counted, name = (
            (texts, each.dataset)
            if each.metric == "perplexity"
            else (tasks, each.part_of or each.task)
        )
        counted[name] = counted.get(name, False) or judged(each) == "worse"
    parts = [
        f"{number(sum(found.values()))} of {number(len(found))} {what}{'s' * (len(found) > 1)}"
        for what, found in (("task", tasks), ("text", texts))
        if any(found.values())
    ]
    return f"It is worse beyond noise on {listed(parts)}." if parts else ""


def tasks_of(overall: Overall) -> str:
    """Say of how many tasks a mean is."""
    count = len(overall.accuracies)
    return f"{number(count)} task{'' if count == 1 else 's'}"


def _of_tasks(measured: Measured) -> str:
    """Say what is left of the mean accuracy; that chance explains it only where all rows agree."""
    overall = measured.overall
    if overall is None:
        return ""
    low, high = overall.difference.low, overall.difference.high
    said = (
        f"It keeps {share(overall.recovery)} of the base's mean accuracy over {tasks_of(overall)}"
    )
    if low is None or high is None:
        return f"{said}; how much of that is noise is not known."
    if low <= 0 <= high:
        within = ", which differs from the base's by no more than chance explains"
        return f"{said}{'' if _worse(measured) else within}."
    return f"{said}: {'less' if high < 0 else 'more'} than the base by more than chance explains."


def _of_fidelity(measured: Measured) -> str:
    found = measured.fidelity
    if found is None:
        return ""
    return (
        f"Its most likely next token is the base's in {percent(found.result.agreement.value)} "
        "of places, and its mean KL divergence from the base is "
        f"{number(found.result.mean.value)} nats."
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
