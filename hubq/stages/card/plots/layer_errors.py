"""Where the quantization hurts: the error of each layer's outputs, block by block."""

import re
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING

from hubq.records.checkpoint import QuantizedLayer
from hubq.stages.card.plots.style import DRAWN, LIGHT, POINTS, Theme, canvas, label, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IN_A_BLOCK = re.compile(r"\.(\d+)\.(?:.*\.)?(\w+)$")
MARKERS = "osD^vPX"
LINE = 0.075  # of the height of the axes: what a line of type takes

Line = tuple[str, tuple[tuple[int, float], ...]]  # a kind of linear, its errors by block


def errors_by_kind(layers: Sequence[QuantizedLayer]) -> dict[str, dict[int, float]]:
    """Return the errors of the layers inside blocks, by kind of linear and block.

    They are those of the outputs, or of the weights where no layer has one of its outputs.
    """
    of_weights = are_of_weights(layers)
    found: dict[str, dict[int, float]] = {}
    for layer in layers:
        place = IN_A_BLOCK.search(layer.name)
        error = layer.weight_error if of_weights else layer.error
        if place and error:
            found.setdefault(place[2].removesuffix("_proj"), {})[int(place[1])] = error
    return found


def are_of_weights(layers: Sequence[QuantizedLayer]) -> bool:
    """Tell whether only errors of the weights are known, as without calibration."""
    return all(layer.error is None for layer in layers)


def error_by_layer(layers: Sequence[QuantizedLayer], theme: Theme = LIGHT) -> bytes | None:
    """Draw one line for each kind of linear over the blocks; None where no error was measured."""
    kinds = errors_by_kind(layers)
    if not kinds:
        return None
    what = "weights" if are_of_weights(layers) else "outputs"
    return _drawn(
        tuple((kind, tuple(errors.items())) for kind, errors in kinds.items()), what, theme
    )


@lru_cache(maxsize=DRAWN)
def _drawn(lines: tuple[Line, ...], what: str, theme: Theme) -> bytes:
    from matplotlib.ticker import MaxNLocator, NullFormatter

    kinds = {kind: dict(errors) for kind, errors in lines}
    figure, axes = canvas(560, f"Error of each layer's {what}", theme)
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
    """Move heights apart to at least `gap`, in their order, as little as can be.

    Less their own share of the gaps they only have to rise, and the nearest rising values are the
    means of those neighbours that do not.
    """
    ordered = sorted(heights, key=lambda name: (heights[name], name))
    pools: list[list[float]] = []
    for place, name in enumerate(ordered):
        pools.append([heights[name] - place * gap])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    rising = [fmean(pool) for pool in pools for _ in pool]
    return {
        name: min(max(value, 0.0), 1.0 - (len(ordered) - 1) * gap) + place * gap
        for place, (name, value) in enumerate(zip(ordered, rising, strict=True))
    }
