"""Where the quantization hurts: the error of each layer's outputs, block by block."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hubq.pictures.canvas import LIGHT, POINTS, Theme, canvas, label, png
from hubq.quantize import QuantizedLayer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IN_A_BLOCK = re.compile(r"\.(\d+)\.(?:.*\.)?(\w+)$")
MARKERS = "osD^vPX"
LINE = 0.075  # of the height of the axes: what a line of type takes


def errors_by_kind(layers: Sequence[QuantizedLayer]) -> dict[str, dict[int, float]]:
    """Return the measured errors of the layers inside blocks, by kind of linear and block."""
    found: dict[str, dict[int, float]] = {}
    for layer in layers:
        place = IN_A_BLOCK.search(layer.name)
        if place and layer.error:
            found.setdefault(place[2].removesuffix("_proj"), {})[int(place[1])] = layer.error
    return found


def error_by_layer(layers: Sequence[QuantizedLayer], theme: Theme = LIGHT) -> bytes | None:
    """Draw one line for each kind of linear over the blocks; None where no error was measured."""
    from matplotlib.ticker import MaxNLocator, NullFormatter

    kinds = errors_by_kind(layers)
    if not kinds:
        return None
    figure, axes = canvas(560, "Error of each layer's outputs", theme)
    axes.set_yscale("log")
    for number, (kind, errors) in enumerate(kinds.items()):
        axes.plot(
            list(errors),
            list(errors.values()),
            color=theme.series[number % len(theme.series)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=6,
            linewidth=1.8,
            label=kind,
        )
    axes.grid(axis="y", color=theme.line)
    axes.yaxis.set_minor_formatter(NullFormatter())
    _show_decades(axes)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    label(axes, theme, "block", "relative squared error")
    _name_the_lines(axes, kinds, theme)
    return png(figure)


def _show_decades(axes: "Axes") -> None:
    """Tick tenfold steps; between them too where fewer than two would be left."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    low, high = axes.get_ylim()
    wide = high / low > 100
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _name_the_lines(axes: "Axes", kinds: dict[str, dict[int, float]], theme: Theme) -> None:
    """Write each kind at the end of its line, moved apart so that none covers another."""
    last = max(block for errors in kinds.values() for block in errors)
    to_axes = (axes.transScale + axes.transLimits).transform
    ends = {kind: to_axes((last, list(errors.values())[-1]))[1] for kind, errors in kinds.items()}
    colors = dict(zip(kinds, theme.series * len(kinds), strict=False))
    for kind, height in spread(ends, LINE).items():
        axes.annotate(
            kind,
            (1.0, height),
            xycoords="axes fraction",
            fontsize=POINTS,
            color=colors[kind],
            va="center",
            ha="left",
            fontweight="bold",
        )


def spread(heights: dict[str, float], gap: float) -> dict[str, float]:
    """Move heights apart to at least `gap`, in their order, as a whole within 0 and 1."""
    ordered = sorted(heights, key=lambda name: (heights[name], name))
    placed: dict[str, float] = {}
    below = -gap
    for name in ordered:
        below = placed[name] = max(heights[name], below + gap)
    over = max(0.0, below - 1.0)
    above = 1.0 + gap
    for name in reversed(ordered):
        above = placed[name] = min(placed[name] - (over if placed[name] > 1 else 0), above - gap)
    return placed
