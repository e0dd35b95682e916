"""How a training went: the loss over its steps, on what is learnt and on pairs held out."""

from functools import lru_cache

from hubq.records.adaptation import Curve
from hubq.stages.card.plots.layer_errors import spread
from hubq.stages.card.plots.style import DRAWN, LIGHT, POINTS, Theme, canvas, label, png

LINE = 0.09  # of the height of the axes: what a line of type takes


def loss_by_step(curve: Curve | None, theme: Theme = LIGHT) -> bytes | None:
    """Draw the losses; None where fewer than two are known."""
    return (
        None if curve is None or len(curve.losses) < 2 else _drawn(curve.model_dump_json(), theme)
    )


@lru_cache(maxsize=DRAWN)
def _drawn(values: str, theme: Theme) -> bytes:
    from matplotlib.ticker import MaxNLocator

    curve = Curve.model_validate_json(values)
    figure, axes = canvas(520, "Loss while it learnt", theme)
    lines = {
        "learnt": (curve.steps, curve.losses, theme.series[0], "-"),
        "held out": (curve.held_out_steps, curve.held_out_losses, theme.mark, "o-"),
    }
    drawn = {name: each for name, each in lines.items() if each[1]}
    for steps, losses, color, marks in drawn.values():
        axes.plot(steps, losses, marks, color=color, markersize=6, linewidth=1.8)
    axes.grid(axis="y", color=theme.line)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    label(axes, theme, "step", "nats per token")
    to_axes = (axes.transScale + axes.transLimits).transform
    ends = {name: to_axes((each[0][-1], each[1][-1]))[1] for name, each in drawn.items()}
    for name, height in spread(ends, LINE).items():
        axes.annotate(
            name,
            (1.0, height),
            xycoords="axes fraction",
            fontsize=POINTS,
            color=drawn[name][2],
            va="center",
            ha="left",
            fontweight="bold",
        )
    return png(figure)
