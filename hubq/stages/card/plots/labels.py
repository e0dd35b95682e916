"""Where the names of points go: beside them, or farther off with a line to them.

A name covers no point, no bar, no line and no other name. First come the places right beside the
point, then ever wider circles around it. What needs a name gets one: where no place is free, the
one that covers least. Nothing is timed or drawn by lot, so equal reports give equal bytes.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hubq.stages.card.plots.style import DPI, POINTS, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

Position = tuple[float, float]
BESIDE = ((-14, 0), (-12, -15), (0, -23), (12, -15), (14, 0), (12, 15), (0, 23), (-12, 15))
CIRCLES = (40, 65, 90, 120, 160, 210, 270)  # pixels around a point
DIRECTIONS = 16
STEPS = 48  # of a line to a name: places that are looked at
POINT = 9  # pixels from the middle of a point to its edge
PIXEL = 72 / DPI  # points


class Name(NamedTuple):
    """A name and how it looks."""

    text: str
    at: Position  # of its point, in the axes' data
    color: str
    is_bold: bool
    is_needed: bool
    below: bool  # whether it goes below the front rather than above


class Taken(NamedTuple):
    """What names must not cover, in pixels."""

    solid: "list[Bbox]"  # points, bars and names: no line to a point may cross these either
    lines: "list[Bbox]"


def write_names(axes: "Axes", names: Sequence[Name], taken: Taken, theme: Theme) -> None:
    """Write names in their order, each where it covers nothing that is there already."""
    from matplotlib.patheffects import withStroke

    for name in names:
        text = axes.annotate(
            name.text,
            name.at,
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=POINTS,
            color=name.color,
            fontweight="bold" if name.is_bold else "normal",
            path_effects=[withStroke(linewidth=3, foreground=theme.paper)],
            zorder=6,
        )
        offset = _best(text, name, axes, taken)
        if offset is None:
            text.remove()
            continue
        extent = _moved(text, offset)
        taken.solid.append(extent)
        if math.hypot(*offset) >= CIRCLES[0]:
            taken.lines.extend(_join(axes, name.at, extent, theme))


def _best(text: "Annotation", name: Name, axes: "Axes", taken: Taken) -> Position | None:
    """Return the first offset in pixels where nothing is covered; None: there is no good one."""
    point = _in_pixels(axes, name.at)
    others = [each for each in taken.solid if not each.contains(*point)]
    counts: dict[Position, int] = {}
    for offset in _offsets(name.below):
        extent = _moved(text, offset)
        if not _is_inside(extent, axes):
            continue
        covered = sum(extent.overlaps(each) for each in (*taken.solid, *taken.lines))
        if math.hypot(*offset) >= CIRCLES[0]:
            covered += sum(_crosses(point, _nearest(extent, point), each) for each in others)
        if not covered:
            return offset
        counts[offset] = covered
    if not name.is_needed or not counts:
        return None
    return min(counts, key=lambda offset: counts[offset])


def _offsets(below: bool) -> Iterator[Position]:
    """Yield where a name may stand, best first: pixels right and up of its point."""
    start = 0 if below else 4
    yield from (*BESIDE[start:], *BESIDE[:start])
    first = math.radians(215 if below else 35)
    for radius in CIRCLES:
        for number in range(DIRECTIONS):
            # To both sides of the best direction by turns.
            turn = (number + 1) // 2 * (-1) ** number
            angle = first + turn * 2 * math.pi / DIRECTIONS
            yield radius * math.cos(angle), radius * math.sin(angle)


def _moved(text: "Annotation", offset: Position) -> "Bbox":
    """Move a name and return what it covers, in pixels."""
    right, up = offset
    text.set_position((right * PIXEL, up * PIXEL))
    sideways = abs(right) < 8
    text.set(ha="center" if sideways else "right" if right < 0 else "left", va="center")
    return text.get_window_extent().padded(2)


def _in_pixels(axes: "Axes", point: Position) -> Position:
    x, y = axes.transData.transform(point)
    return float(x), float(y)


def _is_inside(extent: "Bbox", axes: "Axes") -> bool:
    room: Bbox = axes.get_window_extent()
    return bool(
        room.x0 <= extent.x0
        and extent.x1 <= room.x1
        and room.y0 <= extent.y0
        and extent.y1 <= room.y1
    )


def _nearest(extent: "Bbox", point: Position) -> Position:
    """Return the place of a name that is nearest to its point."""
    x, y = point
    return min(max(x, extent.x0), extent.x1), min(max(y, extent.y0), extent.y1)


def _crosses(start: Position, end: Position, box: "Bbox") -> bool:
    """Tell whether the line to a name goes through a box."""
    return any(box.contains(*each) for each in _between(start, end))


def _between(start: Position, end: Position) -> list[Position]:
    """Return places on the line from one to another, close to each other."""
    parts = [number / STEPS for number in range(STEPS + 1)]
    (x0, y0), (x1, y1) = start, end
    return [(x0 + part * (x1 - x0), y0 + part * (y1 - y0)) for part in parts]


def _join(axes: "Axes", point: Position, extent: "Bbox", theme: Theme) -> "list[Bbox]":
    """Draw the line from a point to its name, and return the room that it takes, in pixels."""
    from matplotlib.transforms import Bbox

    start = _in_pixels(axes, point)
    end = _nearest(extent, start)
    reach = math.dist(start, end)
    begin = [a + POINT * (b - a) / reach for a, b in zip(start, end, strict=True)]
    ends = axes.transData.inverted().transform([begin, end])
    axes.plot(*zip(*ends, strict=True), color=theme.soft, linewidth=1.2, zorder=2)
    return [Bbox([each, each]).padded(2) for each in _between(start, end)]


def around(axes: "Axes", point: Position) -> "Bbox":
    """Return the square that a point takes in the picture, in pixels."""
    from matplotlib.transforms import Bbox

    x, y = _in_pixels(axes, point)
    return Bbox.from_extents(x - POINT, y - POINT, x + POINT, y + POINT)


def along(axes: "Axes", start: Position, end: Position) -> "Bbox":
    """Return the room of a line along an axis, in pixels."""
    from matplotlib.transforms import Bbox

    (x0, y0), (x1, y1) = axes.transData.transform([start, end])
    return Bbox.from_extents(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)).padded(3)


def apart(axes: "Axes", points: Sequence[Position]) -> list[Position]:
    """Move points that lie on one another to the right, the lowest excepted, in data.

    So none seems to have fewer bits than it has.
    """
    pixels = [_in_pixels(axes, each) for each in points]
    order = sorted(range(len(points)), key=lambda number: (pixels[number][1], pixels[number][0]))
    groups: list[list[int]] = []
    for number in order:
        near = (
            group
            for group in groups
            if any(math.dist(pixels[number], pixels[each]) < POINT for each in group)
        )
        group = next(near, None)
        if group is None:
            groups.append([number])
        else:
            group.append(number)
    moved = list(pixels)
    for group in groups:
        for place, number in enumerate(group):
            moved[number] = (pixels[number][0] + 2 * POINT * place, pixels[number][1])
    return [(float(x), float(y)) for x, y in axes.transData.inverted().transform(moved)]
