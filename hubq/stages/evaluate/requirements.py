"""Budgets: what a recipe requires of its result before anybody may download it.

They are judged by the values as measured: where a recipe adapts what it quantized, by those of the
adapted model, which is what it is for. Noise excuses nothing, but it is said: who wants to be
sure asks for more items, not for a softer budget.
"""

from collections.abc import Iterator

from hubq.errors import UserError
from hubq.records.adapted_report import AdaptedReport
from hubq.records.number_format import number, percent, share, within_noise
from hubq.records.recipe_evaluate import EvaluateSection, RequireSection
from hubq.records.report import Measured, Measurement, Report


def unmet(report: Report) -> list[str]:
    """Say of each budget that the result misses by how much; also of those nobody measured.

    Of a checkpoint that is adapted nothing is required: the adapted model is judged.
    """
    if report.plan.adaptation is not None and not isinstance(report, AdaptedReport):
        return []
    section = EvaluateSection.model_validate(report.plan.recipe.get("evaluate", {}))
    require = section.require
    sentences = [*_recovery(report, require), *_perplexities(report, require)]
    return [*sentences, *_divergence(report, require), *_bits(report, require)]


def refuse_unmet(report: Report) -> None:
    """Raise UserError with all budgets that the result misses."""
    if missed := unmet(report):
        listed = "\n  ".join(missed)
        adapted = isinstance(report, AdaptedReport)
        what, other = ("the adapted model", "adapter") if adapted else ("it", "method")
        raise UserError(
            f"{report.plan.repo} is not published: {what} does not meet its recipe's "
            f"requirements.\n  {listed}\n"
            f"The run folder is kept. Use more bits or another {other}, or change "
            "evaluate.require, which neither quantizes nor measures again"
        )


def _recovery(report: Measured, require: RequireSection) -> Iterator[str]:
    if require.recovery is None:
        return
    overall = report.overall
    if overall is None:
        yield f"recovery was not measured: {_without_mean(report)}"
    elif overall.recovery.value < require.recovery:
        yield (
            f"recovery is {share(overall.recovery)} of the base's mean accuracy, but "
            f"{percent(require.recovery)} is required"
        )


def _without_mean(report: Measured) -> str:
    """Say why there is no mean accuracy to recover."""
    guessed = [each.accuracy for each in report.left_out if each.reason == "guessing"]
    if guessed:
        return f"the base itself is no better than guessing in {', '.join(guessed)}"
    if report.left_out:
        return "tasks about alignment are not part of it, and no others were measured"
    return "no measured task has an accuracy above zero for the base"


def _perplexities(report: Measured, require: RequireSection) -> Iterator[str]:
    if require.perplexity_ratio is None:
        return
    found = [each for each in report.measurements if each.metric == "perplexity"]
    if not found:
        yield "the perplexity ratio was not measured"
    for each in found:
        if each.value > require.perplexity_ratio * each.base:
            yield _perplexity(each, require.perplexity_ratio)


def _perplexity(found: Measurement, greatest: float) -> str:
    noise = ", a difference within the noise" if within_noise(found) else ""
    return (
        f"perplexity on {found.dataset} is {number(found.value / found.base)} times the base's "
        f"({number(found.value)} and {number(found.base)}{noise}), but at most "
        f"{number(greatest)} is allowed"
    )


def _divergence(report: Measured, require: RequireSection) -> Iterator[str]:
    if require.divergence is None:
        return
    if report.fidelity is None:
        yield "the KL divergence was not measured"
    elif report.fidelity.result.mean.value > require.divergence:
        yield (
            f"mean KL divergence is {number(report.fidelity.result.mean.value)} nats on "
            f"{report.fidelity.dataset}, but at most {number(require.divergence)} is allowed"
        )


def _bits(report: Report, require: RequireSection) -> Iterator[str]:
    stored = report.linear_bits
    if require.stored_bits is not None and stored > require.stored_bits:
        yield (
            f"the quantized linears store {number(stored)} bits per weight, but at most "
            f"{number(require.stored_bits)} is allowed"
        )
