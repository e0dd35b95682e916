"""Quality against size: every model of one base, and the front beyond which nothing is gained."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from hubq import choice
from hubq.comparison import Entry
from hubq.evaluate.report import Interval
from hubq.front import Point
from hubq.pictures.canvas import LIGHT, POINTS, Theme, canvas, label, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

BITS = (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32)
FEW_BITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
# Where a label may stand beside its point, best first: pixels right and up, and its alignment.
BELOW_THE_FRONT = (
    (-14, 0, "right", "center"),
    (-10, -10, "right", "top"),
    (0, -14, "center", "top"),
    (10, -10, "left", "top"),
)
ABOVE_THE_FRONT = (
    (14, 0, "left", "center"),
    (10, 10, "left", "bottom"),
    (0, 14, "center", "bottom"),
    (-10, 10, "right", "bottom"),
)


def quality_against_bits(
    entries: Sequence[Entry], this: str | None = None, theme: Theme = LIGHT
) -> bytes | None:
    """Draw each model's loss over its bits, `this` highlighted; None where nothing compares."""
    figure = bits_figure(entries, this, theme)
    return None if figure is None else png(figure)


def bits_figure(
    entries: Sequence[Entry], this: str | None = None, theme: Theme = LIGHT
) -> "Figure | None":
    """Draw the same as a figure, which any format can be written of."""
    compared = choice.axes(entries, this)
    if compared is None or len(compared.points) < 2:
        return None
    figure, axes = canvas(620, f"{_capital(compared.loss)}: lower is better", theme)
    _scale(axes, compared)
    _draw_front(axes, compared, theme)
    for name, point in compared.points.items():
        _draw_point(axes, point, name == this, _color(name in compared.front, theme), theme)
    axes.grid(color=theme.line)
    label(axes, theme, compared.cost)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the labels below stay inside of what stands
    _name_points(axes, compared, this, theme)
    return figure


def _draw_point(axes: "Axes", point: Point, is_this: bool, color: str, theme: Theme) -> None:
    """Draw a model, and a bar for the interval of its loss where that is known."""
    bits, loss = point
    color, layer = (theme.mark, 4) if is_this else (color, 3)
    if loss.low is not None and loss.high is not None:
        axes.plot([bits, bits], [loss.low, loss.high], color=color, linewidth=2, zorder=layer)
    axes.plot(
        bits,
        loss.value,
        marker="D" if is_this else "o",
        color=color,
        markersize=14 if is_this else 10,
        linestyle="none",
        zorder=layer,
    )


def _at(point: Point) -> tuple[float, float]:
    """Return where a point is drawn."""
    return point.bits, point.loss.value


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _color(is_front: bool, theme: Theme) -> str:
    return theme.series[0] if is_front else theme.soft


def _scale(axes: "Axes", compared: choice.Axes) -> None:
    """Let bits and losses grow by factors, with few and round ticks."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    bits = [point.bits for point in compared.points.values()]
    losses = [end for point in compared.points.values() for end in _ends(point.loss)]
    axes.set_xscale("log")
    axes.set_xlim(min(bits) / 1.15, max(bits) * 1.3)
    axes.xaxis.set_major_locator(FixedLocator(BITS if max(bits) < 3 * min(bits) else FEW_BITS))
    if min(losses) > 0 and max(losses) > 3 * min(losses):
        axes.set_yscale("log")
        reach = max(losses) / min(losses)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if reach > 200 else (1.0, 2.0, 5.0)))
        axes.set_ylim(min(losses) / reach**0.1, max(losses) * reach**0.1)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.margins(y=0.12)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(plain)


def _ends(loss: Interval) -> tuple[float, ...]:
    """Return a loss with the ends of its interval; a logarithmic axis has no place for others."""
    known = (loss.value, loss.low, loss.high)
    return tuple(end for end in known if end is not None and (end > 0 or end == loss.value))


def _draw_front(axes: "Axes", compared: choice.Axes, theme: Theme) -> None:
    """Draw the front as steps: with so many bits, this is the least that can be lost.

    Of those on the front that noise may be all that parts, the steps go by the one below.
    """
    steps: list[tuple[float, float]] = []
    for bits, loss in sorted(_at(compared.points[name]) for name in compared.front):
        if not steps or loss < steps[-1][1]:
            steps.append((bits, loss))
    corners = [steps[0]]
    for before, after in pairwise(steps):
        corners += [(after[0], before[1]), after]
    axes.plot(*zip(*corners, strict=True), color=theme.series[0], linewidth=1.6, zorder=2)
    if compared.base is not None:
        axes.axhline(compared.base, color=theme.soft, linewidth=1.5, linestyle=(0, (4, 3)))
        axes.annotate(
            "base",
            (0.99, compared.base),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4),
            textcoords="offset pixels",
            fontsize=POINTS,
            color=theme.soft,
            ha="right",
        )


def _name_points(axes: "Axes", compared: choice.Axes, this: str | None, theme: Theme) -> None:
    """Write names beside points where they cover nothing: this one, the front, then the others."""
    from matplotlib.patheffects import withStroke

    names = choice.short_names(list(compared.points))
    first = [this] if this in compared.points else []
    ordered = dict.fromkeys([*first, *compared.front, *compared.points])
    taken = [_around(axes, _at(point)) for point in compared.points.values()]
    taken += [text.get_window_extent() for text in axes.texts]
    for name in ordered:
        color = theme.mark if name == this else theme.ink
        is_front = name in compared.front
        text = axes.annotate(
            names[name],
            _at(compared.points[name]),
            xytext=(0, 0),
            textcoords="offset pixels",
            fontsize=POINTS,
            color=color if is_front or name == this else theme.soft,
            fontweight="bold" if name == this else "normal",
            path_effects=[withStroke(linewidth=5, foreground=theme.paper)],
        )
        if not _placed(text, axes, taken, is_front) and name != this:
            text.remove()


def _placed(text: "Annotation", axes: "Axes", taken: "list[Bbox]", is_front: bool) -> bool:
    """Move a label to the first place where it covers nothing; tell whether there is one."""
    first, then = BELOW_THE_FRONT, ABOVE_THE_FRONT
    for right, up, horizontal, vertical in first + then if is_front else then + first:
        text.set_position((right, up))
        text.set(ha=horizontal, va=vertical)
        extent = text.get_window_extent()
        if _is_inside(extent, axes) and not any(extent.overlaps(each) for each in taken):
            taken.append(extent)
            return True
    return False


def _is_inside(extent: "Bbox", axes: "Axes") -> bool:
    room: Bbox = axes.get_window_extent()
    return bool(room.x0 <= extent.x0 and extent.x1 <= room.x1 and room.y0 <= extent.y0 < room.y1)


def _around(axes: "Axes", point: tuple[float, float]) -> "Bbox":
    """Return the square that a point takes in the picture."""
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform(point)
    return Bbox.from_extents(x - 9, y - 9, x + 9, y + 9)
