"""How much of each ability is left: the recovery of every task with its interval."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from hubq.records.number_format import percent
from hubq.records.report import Interval, Measured, Measurement
from hubq.stages.card.plots.style import DRAWN, LIGHT, POINTS, Theme, canvas, label, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 52  # pixels
AROUND = 150  # pixels above and below the rows
LEAST, GREATEST = 0.5, 1.5  # shares beyond which an arrow says that a bar or a value goes on
ALL = "all tasks"


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
    return [Kept(ALL, overall.recovery), *rows] if overall and rows else rows


def _title(measurement: Measurement, others: Sequence[Measurement]) -> str:
    """Name a task; with its metric where several metrics were taken of it."""
    alike = [each for each in others if each.task == measurement.task]
    return measurement.task if len(alike) == 1 else f"{measurement.task} {measurement.metric}"


def recovery_by_task(measured: Measured, theme: Theme = LIGHT) -> bytes | None:
    """Draw a row for each task; None where no score was measured."""
    rows = kept(measured)
    return _drawn(tuple(rows), theme) if rows else None


@lru_cache(maxsize=DRAWN)
def _drawn(rows: tuple[Kept, ...], theme: Theme) -> bytes:
    figure, axes = canvas(AROUND + ROW * len(rows), "How much of the base's score is left", theme)
    axes.axvline(1, color=theme.soft, linewidth=1.5, linestyle=(0, (4, 3)))
    left, right = reach([row.share for row in rows])
    for place, row in enumerate(rows):
        overall = row.title == ALL
        color = theme.mark if overall else theme.series[0]
        draw_row(axes, place, row.share, color, is_overall=overall)
        axes.annotate(
            percent(row.share.value),
            (1.02, place),
            xycoords=("axes fraction", "data"),
            fontsize=POINTS,
            color=theme.ink,
            va="center",
        )
    _scale(axes, (left, right), [row.title for row in rows])
    axes.grid(axis="x", color=theme.line)
    label(axes, theme, "share of the base's score, 95 % interval")
    return png(figure)


def reach(shares: Sequence[Interval]) -> tuple[float, float]:
    """Return the ends of the axis: those of the bars, but no farther than says something."""
    ends = [end for share in shares for end in _ends(share)]
    low, high = max(min(*ends, 1.0), LEAST), min(max(*ends, 1.0), GREATEST)
    room = 0.06 * (high - low or 1)
    return low - room, high + room


def draw_row(axes: "Axes", place: int, share: Interval, color: str, *, is_overall: bool) -> None:
    """Draw a value on its bar; arrows show where they go on beyond the axis."""
    low, high = (min(max(end, LEAST), GREATEST) for end in _ends(share))
    width, tall = (5, 13) if is_overall else (3, 11)
    axes.plot([low, high], [place, place], color=color, linewidth=width, solid_capstyle="butt")
    for end, edge, arrow in zip(_ends(share), (LEAST, GREATEST), "<>", strict=True):
        if (end < edge) if arrow == "<" else (end > edge):
            axes.plot(edge, place, marker=arrow, color=color, markersize=tall)
    if LEAST <= share.value <= GREATEST:
        marker, size = ("D", 9) if is_overall else ("o", tall)
        axes.plot(share.value, place, marker=marker, color=color, markersize=size)


def _scale(axes: "Axes", ends: tuple[float, float], titles: Sequence[str]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_yticks(range(len(titles)), titles)
    axes.set_ylim(len(titles) - 0.5, -0.5)
    axes.set_xlim(*ends)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g} %"))


def _ends(share: Interval) -> tuple[float, float]:
    """Return where the bar begins and ends; at the value where no interval is known."""
    low = share.value if share.low is None else share.low
    high = share.value if share.high is None else share.high
    return low, high
