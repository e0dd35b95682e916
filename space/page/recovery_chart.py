"""What is left of the base's quality, task by task, with what chance would make of it."""

from collections.abc import Iterator, Sequence

from releases.models import Recovery, Released

from hubq.figures import percent, share
from page.pareto_chart import short
from page.scales import Scale, fitted
from page.svg import COLORS, INK, dot, figure, line, mark, words

WIDTH = 420.0
LEFT, RIGHT = 22.0, 22.0
ROW = 14.0  # pixels of a model in a task
HEAD = 22.0  # of a task's name
ENTRY = 16.0  # of a model in the legend
FOOT = 42.0
MOST = len(COLORS)  # models that can be told apart


def recovery_chart(models: Sequence[Released]) -> str:
    """Return the chart of up to six models: each task's share of the base's, 95 % intervals."""
    every = [each for each in models if each.recoveries]
    shown = every[:MOST]
    if not shown:
        return figure(WIDTH, 40, "Nothing to show", [words(0, 20, "None of them was measured.")])
    tasks = list(dict.fromkeys(each.task for model in shown for each in model.recoveries))
    legend = list(_legend(shown, len(every) - len(shown)))
    top, block = 4 + ENTRY * (len(shown) + (len(every) > MOST)), HEAD + ROW * len(shown)
    height = top + len(tasks) * block + FOOT
    x = _scale(shown)
    parts = [*legend, *_axis(x, top, height - FOOT)]
    for number, task in enumerate(tasks):
        parts += _task(task, shown, x, top + number * block)
    return figure(WIDTH, height, _about(shown, tasks), parts)


def _scale(shown: Sequence[Released]) -> Scale:
    every = [each.share for model in shown for each in model.recoveries]
    values = [end for each in every for end in (each.low, each.value, each.high) if end is not None]
    return fitted([1.0, *values], LEFT, WIDTH - RIGHT)


def _legend(shown: Sequence[Released], hidden: int) -> Iterator[str]:
    for row, name in enumerate(short([each.name for each in shown])):
        yield dot(8, 10 + ENTRY * row, COLORS[row])
        yield words(20, 14 + ENTRY * row, name)
    if hidden:
        yield words(20, 14 + ENTRY * len(shown), f"{hidden} more: choose some to compare")


def _axis(x: Scale, top: float, bottom: float) -> Iterator[str]:
    for value in x.ticks(5):
        yield line((x(value), top), (x(value), bottom))
        yield words(x(value), bottom + 15, f"{100 * value:.4g} %", anchor="middle")
    yield line((x(1.0), top), (x(1.0), bottom), INK, dashed=True)
    about = "of the base's quality (dashed: all of it)"
    yield words((x.start + x.end) / 2, bottom + 33, about, anchor="middle")


def _task(task: str, shown: Sequence[Released], x: Scale, top: float) -> Iterator[str]:
    yield words(0, top + HEAD - 6, task)
    for row, model in enumerate(shown):
        found = next((each for each in model.recoveries if each.task == task), None)
        if found is not None:
            yield _mark(model, found, x, top + HEAD + ROW * (row + 0.5), COLORS[row])


def _mark(model: Released, found: Recovery, x: Scale, y: float, color: str) -> str:
    low, high = found.share.low, found.share.high
    error = "" if low is None or high is None else line((x(low), y), (x(high), y), color)
    return mark(describe(model, found), error + dot(x(found.share.value), y, color, radius=4))


def describe(model: Released, found: Recovery) -> str:
    """Say in a line what a mark shows."""
    values = (found.value, found.base)
    is_share = max(values) <= 1
    value, base = (percent(each) if is_share else f"{each:.4g}" for each in values)
    return (
        f"{model.name}, {found.task}: {share(found.share)} of the base's quality; {value}, the "
        f"base {base}"
    )


def _about(shown: Sequence[Released], tasks: Sequence[str]) -> str:
    names = ", ".join(each.name for each in shown)
    return f"Chart of what is left of the base's quality in {', '.join(tasks)}, for {names}."
