"""Quality against size: every model of one base, and the front beyond which nothing is gained."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from hubq.records.report import Interval
from hubq.stages.card.plots.labels import Name, Position, Taken, along, apart, around, write_names
from hubq.stages.card.plots.style import LIGHT, POINTS, Theme, canvas, label, png
from hubq.stages.compare import pareto
from hubq.stages.compare.comparison import Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BITS = (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32)
FEW_BITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


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
    compared = pareto.axes(entries, this)
    if compared is None or len(compared.points) < 2:
        return None
    figure, axes = canvas(620, f"{_capital(compared.loss)}: lower is better", theme)
    _scale(axes, compared)
    axes.grid(color=theme.line)
    label(axes, theme, compared.cost + _about_bars(compared))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what is drawn from here on stays inside of what stands
    places = _places(axes, compared)
    steps = _draw_front(axes, compared, places, theme)
    for name, point in compared.points.items():
        is_this = name == this
        color = theme.mark if is_this else _color(name in compared.front, theme)
        _draw_point(axes, places[name], point.loss, (color, theme.paper), is_this=is_this)
    _name_points(axes, compared, places, this, steps, theme)
    return figure


def _places(axes: "Axes", compared: pareto.Axes) -> dict[str, Position]:
    """Return where each point is drawn: those that lie on one another stand side by side."""
    found = apart(axes, [(bits, loss.value) for bits, loss in compared.points.values()])
    return dict(zip(compared.points, found, strict=True))


def _draw_point(
    axes: "Axes", at: Position, loss: Interval, colors: tuple[str, str], *, is_this: bool
) -> None:
    """Draw a model, and a bar for the interval of its loss, which shows on its mark too."""
    color, paper = colors
    if loss.low is not None and loss.high is not None:
        bar = [at[0], at[0]], [loss.low, loss.high]
        axes.plot(*bar, color=color, linewidth=4, solid_capstyle="butt", zorder=3)
        axes.plot(*bar, color=paper, linewidth=1.4, solid_capstyle="butt", zorder=5)
    axes.plot(
        *at,
        marker="D" if is_this else "o",
        color=color,
        markersize=13 if is_this else 10,
        linestyle="none",
        zorder=4,
    )


def _about_bars(compared: pareto.Axes) -> str:
    """Say what the bars are, where there are any."""
    known = any(len(_ends(loss)) > 1 for _, loss in compared.points.values())
    return "\nbars: 95 % intervals" if known else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _color(is_front: bool, theme: Theme) -> str:
    return theme.series[0] if is_front else theme.soft


def _scale(axes: "Axes", compared: pareto.Axes) -> None:
    """Let bits and losses grow by factors, with few and round ticks."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    bits = [point.bits for point in compared.points.values()]
    losses = [end for point in compared.points.values() for end in _ends(point.loss)]
    losses += [] if compared.base is None else [compared.base]
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
        room = 0.12 * (max(losses) - min(losses) or 1)
        axes.set_ylim(min(losses) - room, max(losses) + room)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(plain)


def _ends(loss: Interval) -> tuple[float, ...]:
    """Return a loss with the ends of its interval; a logarithmic axis has no place for others."""
    known = (loss.value, loss.low, loss.high)
    return tuple(end for end in known if end is not None and (end > 0 or end == loss.value))


def _draw_front(
    axes: "Axes", compared: pareto.Axes, places: dict[str, Position], theme: Theme
) -> list[Position]:
    """Draw the front as steps: with so many bits, this is the least that can be lost.

    Of those on the front that noise may be all that parts, the steps go by the one below. Returns
    the corners.
    """
    steps: list[Position] = []
    for at in sorted(places[name] for name in compared.front):
        if not steps or at[1] < steps[-1][1]:
            steps.append(at)
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
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=POINTS,
            color=theme.soft,
            ha="right",
        )
    return corners


def _name_points(  # noqa: PLR0913 - what is drawn, and where
    axes: "Axes",
    compared: pareto.Axes,
    places: dict[str, Position],
    this: str | None,
    steps: list[Position],
    theme: Theme,
) -> None:
    """Write names beside points where they cover nothing: this one, the front, then the others."""
    names = pareto.short_names(list(compared.points))
    first = [this] if this in compared.points else []
    front = set(compared.front)
    written = [
        Name(
            text=names[name],
            at=places[name],
            color=theme.mark if name == this else theme.ink if name in front else theme.soft,
            is_bold=name == this,
            is_needed=name == this or name in front,
            below=name in front,
        )
        for name in dict.fromkeys([*first, *compared.front, *compared.points])
    ]
    solid = [around(axes, at) for at in places.values()]
    for name, (_, loss) in compared.points.items():
        bits = places[name][0]
        ends = _ends(loss)
        solid.append(along(axes, (bits, min(ends)), (bits, max(ends))))
    solid += [text.get_window_extent() for text in axes.texts]
    lines = [along(axes, *each) for each in pairwise(steps)]
    if compared.base is not None:
        left, right = axes.get_xlim()
        lines.append(along(axes, (left, compared.base), (right, compared.base)))
    write_names(axes, written, Taken(solid, lines), theme)
