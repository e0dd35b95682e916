"""How much of each ability is left: the recovery of every task with its interval."""

from collections.abc import Sequence
from typing import NamedTuple

from hubq.evaluate.report import Interval, Measured, Measurement
from hubq.figures import percent
from hubq.pictures.canvas import LIGHT, POINTS, Theme, canvas, label, png

ROW = 52  # pixels
AROUND = 150  # pixels above and below the rows


class Kept(NamedTuple):
    """One row: what is left of the base's score, 1 is all."""

    title: str
    share: Interval


def kept(measured: Measured) -> list[Kept]:
    """Return what is left of each task's score, all tasks first; of perplexities nothing."""
    rows = [
        Kept(_title(each, measured.measurements), left)
        for each in measured.measurements
        if not measured.is_member(each) and each.better == "higher" and (left := each.recovery)
    ]
    overall = measured.overall
    return [Kept("all tasks", overall.recovery), *rows] if overall and rows else rows


def _title(measurement: Measurement, others: Sequence[Measurement]) -> str:
    """Name a task; with its metric where several metrics were taken of it."""
    alike = [each for each in others if each.task == measurement.task]
    return measurement.task if len(alike) == 1 else f"{measurement.task} {measurement.metric}"


def recovery_by_task(measured: Measured, theme: Theme = LIGHT) -> bytes | None:
    """Draw a row for each task; None where no score was measured."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    rows = kept(measured)
    if not rows:
        return None
    figure, axes = canvas(AROUND + ROW * len(rows), "How much of the base's score is left", theme)
    axes.axvline(1, color=theme.soft, linewidth=1.5, linestyle=(0, (4, 3)))
    for place, row in enumerate(rows):
        overall = row.title == "all tasks"
        color = theme.mark if overall else theme.series[0]
        low, high = _ends(row.share)
        axes.plot([low, high], [place, place], color=color, linewidth=3, solid_capstyle="butt")
        axes.plot(
            row.share.value, place, marker="D" if overall else "o", color=color, markersize=11
        )
        axes.annotate(
            percent(row.share.value),
            (1.02, place),
            xycoords=("axes fraction", "data"),
            fontsize=POINTS,
            color=theme.ink,
            va="center",
        )
    axes.set_yticks(range(len(rows)), [row.title for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.06)
    axes.grid(axis="x", color=theme.line)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g} %"))
    label(axes, theme, "share of the base's score, 95 % interval")
    return png(figure)


def _ends(share: Interval) -> tuple[float, float]:
    """Return where the bar begins and ends; at the value where no interval is known."""
    low = share.value if share.low is None else share.low
    high = share.value if share.high is None else share.high
    return low, high
