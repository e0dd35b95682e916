"""A family's page: all models of one base in a picture and a table, and which are clearly beaten.

It is a function of the family's record, which lies beside it.
"""

from pathlib import Path

from hubq.machine.files import write_atomically
from hubq.records.number_format import number
from hubq.records.run_folder import FAMILY
from hubq.stages.card.card import CARD
from hubq.stages.card.check import compared
from hubq.stages.card.plots import THEMES, quality_against_bits
from hubq.stages.compare.comparison import Family
from hubq.stages.compare.pareto import Axes, axes, better, short_names
from hubq.stages.compare.tables import markdown

PICTURE = """\
<picture>
  <source media="(prefers-color-scheme: dark)" srcset="images/bits-dark.png">
  <img alt="{alt}" src="images/bits.png" width="780">
</picture>
"""


def write_family(family: Family, folder: Path) -> Path:
    """Write a family's page into a folder named after its base; return its path."""
    place = folder / short_base(family)
    family.save(place / FAMILY)
    return renew_family(place)


def renew_family(folder: Path) -> Path:
    """Write a family's page anew from its record; return its path."""
    for name, content in contents(Family.load(folder / FAMILY)).items():
        write_atomically(folder / name, content)
    return folder / CARD


def family_differences(folder: Path) -> list[str]:
    """Say where a family's page or pictures are not what its record makes of them."""
    return compared(folder, contents(Family.load(folder / FAMILY)))


def short_base(family: Family) -> str:
    """Return a base's name without its organization, commit and folder."""
    name = family.base.name.partition("@")[0].rstrip("/").rpartition("/")[2]
    return name.removeprefix("sha256:")[:60] or "family"


def contents(family: Family) -> dict[str, bytes]:
    """Return the page and its pictures, by their paths."""
    drawn = {
        f"images/bits{'' if theme.name == 'light' else '-dark'}.png": quality_against_bits(
            family.entries, theme=theme
        )
        for theme in THEMES
    }
    pictures = {name: content for name, content in drawn.items() if content is not None}
    return {CARD: _page(family, with_picture=bool(pictures)).encode(), **pictures}


def _page(family: Family, *, with_picture: bool) -> str:
    found = axes(family.entries)
    count = len(family.entries)
    models = "1 model" if count == 1 else f"{number(count)} models"
    parts = [f"# {short_base(family)}: {models} beside their base\n"]
    if with_picture and found is not None:
        parts.append(PICTURE.format(alt=_in_words(found)))
    parts.append(markdown(family))
    if found is not None:
        parts.append(_beaten(found))
    return "\n".join(filter(None, parts))


def _in_words(found: Axes) -> str:
    """Say what the picture shows."""
    names = short_names(list(found.points))
    front = "; ".join(f"{names[each]}, {_facts(found, each)}" for each in found.front)
    return f"{found.loss} against {found.cost}, lower is better. On the front: {front}."


def _facts(found: Axes, name: str) -> str:
    bits, loss = found.points[name]
    return f"{number(loss.value)} at {number(bits)} bits"


def _beaten(found: Axes) -> str:
    """List those that another clearly beats, each with the one to take instead."""
    names = short_names(list(found.points))
    rows = [
        f"- {names[name]} ({_facts(found, name)}): take {names[by]} ({_facts(found, by)})"
        for name in found.points
        if (by := better(found, name)) is not None
    ]
    if not rows:
        return "None is clearly beaten by another.\n"
    return "\n".join(["Clearly beaten:\n", *rows, ""])
