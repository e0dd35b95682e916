"""The charts: quality against stored bits, whose points can be pressed, and recovery task by task.

Gradio's own ScatterPlot reports selected ranges, not points, and gr.Plot reports nothing; so a
chart is a picture of ours in a gr.HTML, which says what was pressed (`PRESSED`). It is not the one
of the cards, since it is drawn again whenever a visitor chooses: 1 ms and 7 kB instead of
matplotlib's 250 ms and 83 kB, in the colours that the page has just now.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

from hubq.records.number_format import number, percent, share
from hubq.records.report import Interval
from page.svg import (
    COLORS,
    INK,
    SMALL,
    Scale,
    button,
    dot,
    extent,
    figure,
    fitted,
    line,
    mark,
    path,
    words,
)
from releases.comparison import Point, Quality, loss_of, points
from releases.models import Recovery, Released

# What a gr.HTML with such a chart gets as js_on_load: its `select` event then has the model's name.
PRESSED = """
const press = (event) => {
  const mark = event.target.closest('[data-model]');
  if (!mark || (event.type === 'keydown' && event.key !== 'Enter' && event.key !== ' ')) return;
  event.preventDefault();
  trigger('select', {value: mark.dataset.model, index: 0});
};
element.addEventListener('click', press);
element.addEventListener('keydown', press);
"""
WIDTH, HEIGHT = 420.0, 340.0  # so small that letters can be read on a phone
LEFT, RIGHT, TOP, BOTTOM = 56.0, 12.0, 12.0, 42.0  # margins
Box = tuple[float, float, float, float]  # left, top, right, bottom
SIDE = 22.0  # margin of the recoveries
ROW = 14.0  # pixels of a model in a task
HEAD = 22.0  # of a task's name
ENTRY = 16.0  # of a model in the legend
FOOT = 42.0
MOST = len(COLORS)  # models that can be told apart


def pareto(models: Iterable[Released], quality: Quality, chosen: Sequence[str] = ()) -> str:
    """Return the chart; `chosen` models, which are being compared, are ringed."""
    every = list(models)
    shown = points(every, quality)
    base = next((value for each in every if each.is_base and (value := quality.of(each))), None)
    x, y = _scales(shown, base, quality)
    parts = [*_axes(x, y, quality), *_reference(base, x, y), *_front(shown, x, y, quality)]
    parts += [_mark(each, x, y, quality, each.model.name in chosen) for each in shown]
    parts += _labels(shown, x, y)
    return figure(WIDTH, HEIGHT, _about(shown, quality), parts)


def _scales(shown: Sequence[Point], base: Interval | None, quality: Quality) -> tuple[Scale, Scale]:
    values = [each.value.value for each in shown] + ([base.value] if base else [])
    bounds = [end for each in shown for end in (each.value.low, each.value.high) if end is not None]
    positive = [each for each in (*values, *bounds) if each > 0 or not quality.lower_is_better]
    x = fitted([each.bits for each in shown], LEFT, WIDTH - RIGHT)
    y = fitted(positive, HEIGHT - BOTTOM, TOP, may_be_log=quality.lower_is_better)
    return x, y


def _axes(x: Scale, y: Scale, quality: Quality) -> Iterator[str]:
    floor = HEIGHT - BOTTOM
    for value in x.ticks():
        yield line((x(value), TOP), (x(value), floor))
        yield words(x(value), floor + 16, f"{value:g}", anchor="middle")
    for value in y.ticks():
        yield line((LEFT, y(value)), (WIDTH - RIGHT, y(value)))
        yield words(LEFT - 6, y(value) + 4, _tick(value, quality), anchor="end")
    yield words((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "stored bits per weight", anchor="middle")
    better = "down" if quality.lower_is_better else "up"
    title = f"{quality.name} (better: {better})"
    yield words(13, (TOP + floor) / 2, title, anchor="middle", turned=True)


def _tick(value: float, quality: Quality) -> str:
    return f"{100 * value:.4g} %" if quality.spelled is percent else f"{value:.4g}"


def _reference(base: Interval | None, x: Scale, y: Scale) -> Iterator[str]:
    """Draw where the base is."""
    if base is not None:
        yield line((x.start, y(base.value)), (x.end, y(base.value)), INK, dashed=True)
        yield words(x.end - 4, y(base.value) - 5, "base", anchor="end")


def _front(shown: Sequence[Point], x: Scale, y: Scale, quality: Quality) -> Iterator[str]:
    """Draw the border of what can be had, as steps: of those on the front the best of so many bits.

    Others are on the front since noise may be all that separates them from these.
    """
    corners: list[tuple[float, float]] = []
    least = math.inf
    for bits, loss, value in sorted(
        (each.bits, loss_of(each.value, quality).value, each.value.value)
        for each in shown
        if each.is_front
    ):
        if loss < least:
            least, at = loss, (x(bits), y(value))
            corners += [(at[0], corners[-1][1]), at] if corners else [at]
    if len(corners) > 1:
        yield path(corners, COLORS[0])


def _mark(point: Point, x: Scale, y: Scale, quality: Quality, chosen: bool) -> str:
    at = (x(point.bits), y(point.value.value))
    low, high = point.value.low, point.value.high
    error = (
        "" if low is None or high is None else line((at[0], y(low)), (at[0], y(high)), COLORS[0])
    )
    ring = dot(*at, COLORS[1], filled=False, radius=9) if chosen else ""
    inside = error + ring + dot(*at, COLORS[0], filled=point.is_front)
    return button(point.model.name, describe(point, quality, chosen), inside, at)


def describe(point: Point, quality: Quality, chosen: bool = False) -> str:
    """Say in a line what a point shows."""
    place = "on the front" if point.is_front else "another model is clearly better"
    state = "being compared" if chosen else "press to compare"
    return (
        f"{point.model.name}: {number(point.bits)} stored bits, {quality.name} "
        f"{quality.spelled(point.value.value)}; {place}; {state}"
    )


def _labels(shown: Sequence[Point], x: Scale, y: Scale) -> Iterator[str]:
    """Name points beside them, as far as the names don't lie on anything."""
    taken = [_box(x(each.bits) - 6, y(each.value.value) + 4, 12) for each in shown]
    names = short([each.model.name for each in shown])
    order = sorted(zip(shown, names, strict=True), key=lambda pair: not pair[0].is_front)
    for each, name in order:
        width = extent(name)
        at = (x(each.bits), y(each.value.value))
        for left, below in ((9, 4), (-9 - width, 4), (-width / 2, -9), (-width / 2, 18)):
            box = _box(at[0] + left, at[1] + below, width)
            if _fits(box) and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                yield words(at[0] + left, at[1] + below, name)
                break


def _box(x: float, baseline: float, width: float) -> Box:
    return (x, baseline - SMALL, x + width, baseline + 3)


def _fits(box: Box) -> bool:
    return box[0] > LEFT and box[2] < WIDTH and box[1] > 0 and box[3] < HEIGHT - BOTTOM


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def short(names: Sequence[str]) -> list[str]:
    """Drop what all names begin with, up to a hyphen, and the organization."""
    parts = [name.rpartition("/")[2].split("-") for name in names]
    common = 0
    while len(names) > 1 and len({tuple(each[: common + 1]) for each in parts}) == 1:
        if min(map(len, parts)) <= common + 1:
            break
        common += 1
    return ["-".join(each[common:]) for each in parts]


def _about(shown: Sequence[Point], quality: Quality) -> str:
    if not shown:
        return f"No model has both stored bits and {quality.name}."
    best = [each.model.name for each in shown if each.is_front]
    return (
        f"Chart of {quality.name} against stored bits per weight for {len(shown)} models. On the "
        f"front: {', '.join(best)}."
    )


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
    for place, task in enumerate(tasks):
        parts += _task(task, shown, x, top + place * block)
    return figure(WIDTH, height, _about_recoveries(shown, tasks), parts)


def _scale(shown: Sequence[Released]) -> Scale:
    every = [each.share for model in shown for each in model.recoveries]
    values = [end for each in every for end in (each.low, each.value, each.high) if end is not None]
    return fitted([1.0, *values], SIDE, WIDTH - SIDE)


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
            yield _recovery_mark(model, found, x, top + HEAD + ROW * (row + 0.5), COLORS[row])


def _recovery_mark(model: Released, found: Recovery, x: Scale, y: float, color: str) -> str:
    low, high = found.share.low, found.share.high
    error = "" if low is None or high is None else line((x(low), y), (x(high), y), color)
    return mark(
        describe_recovery(model, found), error + dot(x(found.share.value), y, color, radius=4)
    )


def describe_recovery(model: Released, found: Recovery) -> str:
    """Say in a line what a mark shows."""
    values = (found.value, found.base)
    is_share = max(values) <= 1
    value, base = (percent(each) if is_share else f"{each:.4g}" for each in values)
    return (
        f"{model.name}, {found.task}: {share(found.share)} of the base's quality; {value}, the "
        f"base {base}"
    )


def _about_recoveries(shown: Sequence[Released], tasks: Sequence[str]) -> str:
    names = ", ".join(each.name for each in shown)
    return f"Chart of what is left of the base's quality in {', '.join(tasks)}, for {names}."
