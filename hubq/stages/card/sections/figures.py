"""Which pictures a card has, and what each says in words for those who don't see it."""

from collections.abc import Callable
from typing import NamedTuple

from hubq.records.adapted_report import AdaptedReport
from hubq.records.number_format import number, share
from hubq.records.report import Measured, Report
from hubq.stages.card.plots import (
    THEMES,
    Theme,
    error_by_layer,
    loss_by_step,
    quality_against_bits,
    recovery_by_task,
)
from hubq.stages.card.plots.layer_errors import errors_by_kind
from hubq.stages.card.plots.task_recovery import kept
from hubq.stages.card.sections.adaptation import curve_of, is_adapter, of_curve
from hubq.stages.card.sections.markdown import listed
from hubq.stages.card.sections.quantization_details import errors
from hubq.stages.card.sections.related_models import all_of, compared
from hubq.stages.compare.pareto import short_names
from hubq.stages.compare.reports import Siblings

NO_SIBLINGS = Siblings()
FOLDER = "images"
NAMES = ("recovery", "bits", "errors", "curve")
OF_ADAPTERS = ("recovery", "curve")  # other pictures are of whole models


class Illustration(NamedTuple):
    """A picture by its finding, and what draws it for a page."""

    name: str
    alt: str
    draw: Callable[[Theme], bytes | None]

    def path(self, theme: Theme) -> str:
        """Return where the picture lies in the repo, and beside the card elsewhere."""
        suffix = "" if theme.name == "light" else f"-{theme.name}"
        return f"{FOLDER}/{self.name}{suffix}.png"


def illustrations(report: Report, siblings: Siblings) -> dict[str, Illustration]:
    """Return the pictures that the records have the numbers for.

    What is adapted has its own data, so how far it is from the base compares it with no others.
    """
    if isinstance(report, AdaptedReport):
        siblings = NO_SIBLINGS
    entries = all_of(report, siblings)
    found = (
        Illustration("recovery", of_tasks(report), lambda theme: recovery_by_task(report, theme)),
        Illustration(
            "bits",
            _of_bits(report, siblings),
            lambda theme: quality_against_bits(entries, report.plan.repo, theme),
        ),
        Illustration(
            "errors",
            _of_layers(report),
            lambda theme: error_by_layer(report.checkpoint.layers, theme),
        ),
        Illustration(
            "curve", of_curve(report), lambda theme: loss_by_step(curve_of(report), theme)
        ),
    )
    shown = OF_ADAPTERS if is_adapter(report) else NAMES
    return {each.name: each for each in found if each.alt and each.name in shown}


def pictures(report: Report, siblings: Siblings) -> dict[str, bytes]:
    """Draw every picture for every page, by its path."""
    drawn = {
        each.path(theme): each.draw(theme)
        for each in illustrations(report, siblings).values()
        for theme in THEMES
    }
    return {path: content for path, content in drawn.items() if content is not None}


def of_tasks(measured: Measured) -> str:
    """Say in words what the picture of tasks shows; nothing where no score was measured."""
    rows = kept(measured)
    if not rows:
        return ""
    said = listed([f"{row.title} {share(row.share)}" for row in rows])
    return f"How much of the base's score is left: {said}."


def _of_bits(report: Report, siblings: Siblings) -> str:
    found = compared(report, siblings)
    if found is None:
        return ""
    names = short_names(list(found.points))
    spelled = {
        name: f"{number(loss.value)} at {number(bits)}"
        for name, (bits, loss) in found.points.items()
    }
    front = listed([f"{names[name]} {spelled[name]}" for name in found.front])
    return (
        f"{found.loss} against {found.cost} of {number(len(found.points))} releases, lower is "
        f"better: this one has {spelled[report.plan.repo]} bits; on the front are {front}."
    )


def _of_layers(report: Report) -> str:
    found = errors(report)
    if found is None or not errors_by_kind(report.checkpoint.layers):
        return ""
    what = "weights" if found.of_weights else "outputs"
    return (
        f"Relative squared error of each layer's {what}, block by block: {found.median} in the "
        f"median layer, from {found.least} to {found.greatest} in {found.worst}."
    )
