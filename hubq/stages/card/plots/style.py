"""What all pictures share: size, type, colours for light and dark pages, and their bytes.

A picture is 780 pixels wide and shown at up to that width; on a phone, where it is shrunk to half,
its type is still 11 pixels high. Its background is solid, so that it is legible on either page.
Colours are those of Okabe and Ito, which colour-blind eyes tell apart. The type is matplotlib's
own, so the same values give the same bytes under the same versions, which the file names. `alike`
compares two files bit by bit, or nearly where other versions drew one.
"""

from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 780  # pixels
DPI = 100
POINTS = 16.0  # size of the type: 22 pixels
SOFTWARE = "Software"  # the name that PNG has for such a note
COLORS = 64  # enough for smooth edges
DRAWN = 16  # pictures that are kept: a card is drawn when it is written, checked and published
SEEN = 48  # of 255: a smaller difference of a pixel is one of smoothing
NEARLY = 0.03  # share of the pixels that other versions of type and lines may change


@dataclass(frozen=True)
class Theme:
    """Colours for one kind of page."""

    name: str
    paper: str
    ink: str
    soft: str  # what is there but not the point
    line: str
    mark: str  # the model that the card is about
    series: tuple[str, ...]  # as many as a block has kinds of linears


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1f2328",
    soft="#6e7781",
    line="#d8dee4",
    mark="#c44e00",
    series=("#0072b2", "#d55e00", "#009e73", "#a3548a", "#8a6d00", "#2a8fc4", "#1f2328"),
)
DARK = Theme(
    name="dark",
    paper="#0b0f19",
    ink="#e6edf3",
    soft="#8d96a0",
    line="#30363d",
    mark="#ff9e4a",
    series=("#56b4e9", "#e69f00", "#2fc79a", "#dd8fbf", "#f0e442", "#8fd3f8", "#e6edf3"),
)
THEMES = (LIGHT, DARK)


def canvas(height: int, title: str, theme: Theme) -> "tuple[Figure, Axes]":
    """Return a figure of this height in pixels, with its title and empty axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (WIDTH / DPI, height / DPI)
    figure = Figure(size, dpi=DPI, facecolor=theme.paper, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor(theme.paper)
    figure.suptitle(title, x=0.01, ha="left", fontsize=POINTS, color=theme.ink, fontweight="bold")
    axes.tick_params(labelsize=POINTS, colors=theme.soft, labelcolor=theme.ink, length=0, pad=6)
    axes.tick_params(which="minor", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def label(axes: "Axes", theme: Theme, x: str = "", y: str = "") -> None:
    """Name the axes."""
    axes.set_xlabel(x, fontsize=POINTS, color=theme.soft)
    axes.set_ylabel(y, fontsize=POINTS, color=theme.soft)


def png(figure: "Figure") -> bytes:
    """Return the picture's bytes, in a palette of its own: few colours make a small file."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    made_by = PngInfo()
    made_by.add_text(SOFTWARE, drawing_software())
    drawn = BytesIO()
    figure.savefig(drawn, format="rgba", dpi=DPI)
    size = figure.canvas.get_width_height()
    picture = Image.frombytes("RGBA", size, drawn.getvalue()).convert("RGB")
    into = BytesIO()
    small = picture.quantize(COLORS, dither=Image.Dither.NONE)
    small.save(into, format="png", optimize=True, pnginfo=made_by)
    return into.getvalue()


def svg(figure: "Figure") -> bytes:
    """Return the picture as SVG, the same bytes for the same values."""
    import matplotlib

    into = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "hubq"}):
        figure.savefig(into, format="svg", metadata={"Date": None})
    return into.getvalue()


def drawing_software() -> str:
    """Name what decides on the pixels: only pictures by the same versions compare bit by bit."""
    return f"matplotlib {version('matplotlib')}, Pillow {version('pillow')}"


def alike(one: bytes, other: bytes) -> bool:
    """Tell whether two PNG files show the same."""
    import numpy
    from PIL import Image, UnidentifiedImageError

    if one == other:
        return True
    try:
        pictures = [Image.open(BytesIO(each)) for each in (one, other)]
        made_by = {each.info.get(SOFTWARE) for each in pictures}
        first, second = (numpy.asarray(each.convert("RGB"), dtype=int) for each in pictures)
    except UnidentifiedImageError:
        return False
    if first.shape != second.shape:
        return False
    changed = (abs(first - second).max(axis=2) > SEEN).mean()
    return bool(changed < NEARLY) if len(made_by) > 1 else bool((first == second).all())
