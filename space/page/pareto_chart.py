"""Quality against stored bits: which models are the front, in a chart whose points can be pressed.

Gradio's own ScatterPlot reports selected ranges, not points, and gr.Plot reports nothing; so the
chart is a picture of ours in a gr.HTML, which says what was pressed (`PRESSED`).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from releases.models import Released, brief

from hubq.evaluate.report import Interval
from hubq.figures import number, percent
from hubq.front import Point as Place
from hubq.front import front
from page.scales import Scale, fitted
from page.svg import COLORS, INK, SMALL, button, dot, extent, figure, line, path, words

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


class Quality(NamedTuple):
    """A measure to look at models by."""

    name: str
    of: Callable[[Released], Interval | None]
    spelled: Callable[[float | None], str]
    lower_is_better: bool


class Point(NamedTuple):
    """A model in the chart."""

    model: Released
    bits: float
    value: Interval
    is_front: bool


def qualities(models: Iterable[Released]) -> list[Quality]:
    """List the measures that any model has, the most telling first."""
    every = list(models)
    texts = dict.fromkeys(text for each in every for text in each.entry.perplexities)
    known = [
        Quality("KL divergence", lambda model: model.divergence, number, lower_is_better=True),
        *(_perplexity(text) for text in texts),
        Quality("recovery", lambda model: model.entry.recovery, percent, lower_is_better=False),
    ]
    return [each for each in known if any(each.of(model) for model in every if not model.is_base)]


def _perplexity(text: str) -> Quality:
    def value(model: Released) -> Interval | None:
        found = model.entry.perplexities.get(text)
        return None if found is None else Interval(value=found)

    return Quality(f"perplexity {brief(text)}", value, number, lower_is_better=True)


def points(models: Iterable[Released], quality: Quality) -> list[Point]:
    """Return the models that have both, and which of them no other clearly beats."""
    found = [
        (each, each.entry.stored_bits, value)
        for each in models
        if not each.is_base
        and each.entry.stored_bits is not None
        and (value := quality.of(each)) is not None
    ]
    is_front = front([Place(bits, _loss(value, quality)) for _, bits, value in found])
    return [Point(*each, on) for each, on in zip(found, is_front, strict=True)]


def _loss(value: Interval, quality: Quality) -> Interval:
    """Turn a value around where more is better."""
    if quality.lower_is_better:
        return value
    low, high = (None if end is None else -end for end in (value.high, value.low))
    return Interval(value=-value.value, low=low, high=high)


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
    yield words((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "stored bits a weight", anchor="middle")
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

    Others are on the front since noise may be all that parts them from these.
    """
    corners: list[tuple[float, float]] = []
    least = math.inf
    for bits, loss, value in sorted(
        (each.bits, _loss(each.value, quality).value, each.value.value)
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
    place = "on the front" if point.is_front else "another one is clearly better"
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


Box = tuple[float, float, float, float]  # left, top, right, bottom


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
        f"Chart of {quality.name} against stored bits a weight for {len(shown)} models. "
        f"On the front: {', '.join(best)}."
    )
