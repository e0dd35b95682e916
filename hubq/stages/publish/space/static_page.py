"""The numbers, charts and cards of released models as plain files: a page that needs no server.

It is made of the same reports as the Space and asks nobody for anything: it has no script, and no
font or picture of another host. What strangers wrote into a report is text there.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.errors import UserError
from hubq.machine.files import write_atomically
from hubq.records.report import Measured, Report
from hubq.stages.card.card import CARD, contents
from hubq.stages.card.plots import THEMES, Theme, quality_against_bits, recovery_by_task
from hubq.stages.card.sections.figures import of_tasks
from hubq.stages.compare.comparison import Family, entry, families
from hubq.stages.compare.reports import siblings_of
from hubq.stages.compare.tables import columns, csv, marks, notes

if TYPE_CHECKING:
    from markdown_it.token import Token

TITLE = "Quantized models compared"
MARK = "hubq-comparison.csv"  # that it is there tells that hubq made a Space
LIST = ".hubq-page"  # in a folder on this machine: the files that hubq wrote there
OWN_PATH = re.compile(r"(?:(?:models|charts)/)?[A-Za-z0-9-][A-Za-z0-9./-]*")
TEMPLATES = Path(__file__).with_name("static")
# How a card shows a picture of its own folder, for light and for dark pages.
PICTURE = re.compile(
    r"<picture>\s*<source [^>]*>\s*<img src=\"(?P<path>images/[a-z-]+\.png)\" "
    r"alt=\"(?P<alt>[^\"]*)\"[^>]*>\s*</picture>"
)
IN_MARKDOWN = re.compile(r"([\\\[\]<>`*_!])")
Chart = dict[str, str]  # the paths of its pictures by theme, and its text


def files(measured: Sequence[Measured]) -> dict[str, bytes]:
    """Return the page's files by their path; the same reports give the same bytes."""
    found, slugs = families(measured), _slugs(measured)
    made: dict[str, bytes] = {MARK: csv(found).encode()}
    made["style.css"] = (TEMPLATES / "style.css").read_bytes()
    shown = []
    for number, family in enumerate(found):
        shown.append(
            {
                "base": family.base.name,
                "table": _table(family, slugs),
                "notes": list(notes(family, "Bold")),
                "chart": _bits_chart(family, number, made),
            }
        )
    for each in measured:
        name = entry(each).name
        card = _card(each, measured, slugs[name], made)
        chart = None if card else _tasks_chart(each, slugs[name], made)
        path = f"models/{slugs[name]}.html"
        made[path] = _page("model.html.j2", name=name, chart=chart, card=card)
    made["index.html"] = _page("index.html.j2", families=shown, data=MARK)
    return made


def write(measured: Sequence[Measured], folder: Path) -> Path:
    """Write the page into a folder, in place of one of before; return the file to open.

    Raises UserError for a folder that holds what hubq did not write.
    """
    made = files(measured)
    before = _written(folder)
    for path, content in made.items():
        write_atomically(folder / path, content)
    for path in sorted(before - made.keys()):
        (folder / path).unlink(missing_ok=True)
    write_atomically(folder / LIST, "".join(f"{path}\n" for path in sorted(made)).encode())
    return folder / "index.html"


def _written(folder: Path) -> set[str]:
    """Return the paths of a page that hubq wrote into a folder before; refuse a stranger's."""
    if not folder.exists() or not any(folder.iterdir()):
        return set()
    if not (folder / LIST).is_file():
        raise UserError(
            f"{folder} holds files that hubq did not write, so no page was written there; name a "
            "new folder, or an empty one"
        )
    named = (folder / LIST).read_text(encoding="utf-8").splitlines()
    return {path for path in named if OWN_PATH.fullmatch(path) and ".." not in path}


def _slugs(measured: Sequence[Measured]) -> dict[str, str]:
    """Give each model a name that any file system and address can hold."""
    found: dict[str, str] = {}
    for name in (entry(each).name for each in measured):
        slug = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[:80] or "model"
        taken = {each.lower() for each in found.values()}
        number = next(n for n in range(len(taken) + 1) if _numbered(slug, n).lower() not in taken)
        found[name] = _numbered(slug, number)
    return found


def _numbered(slug: str, number: int) -> str:
    return f"{slug}-{number + 1}" if number else slug


def _table(family: Family, slugs: Mapping[str, str]) -> dict[str, Any]:
    """Return the headings and the rows: the base first, then each model with its page."""
    shown = columns(family)
    paths = ["", *(f"models/{slugs[each.name]}.html" for each in family.entries)]
    cells = zip(*(each.cells for each in shown), strict=True)
    rows = [
        {"path": path, "on_front": bool(mark), "cells": row}
        for path, mark, row in zip(paths, marks(family), cells, strict=True)
    ]
    return {"headings": [each.heading for each in shown], "rows": rows}


def _bits_chart(family: Family, number: int, made: dict[str, bytes]) -> Chart | None:
    """Draw quality against bits; None where fewer than two models compare."""
    text = "Quality against stored bits: the numbers are those of the table."
    drawn = _drawn(
        f"bits-{number}", lambda theme: quality_against_bits(family.entries, None, theme)
    )
    return _chart(drawn, text, made)


def _tasks_chart(measured: Measured, slug: str, made: dict[str, bytes]) -> Chart | None:
    """Draw what is left of each task's score; None where no score was measured."""
    drawn = _drawn(f"recovery-{slug}", lambda theme: recovery_by_task(measured, theme))
    return _chart(drawn, of_tasks(measured), made)


def _drawn(name: str, draw: Callable[[Theme], bytes | None]) -> dict[str, bytes]:
    pictures = {f"{name}-{theme.name}.png": draw(theme) for theme in THEMES}
    return {f"charts/{path}": content for path, content in pictures.items() if content}


def _chart(drawn: Mapping[str, bytes], text: str, made: dict[str, bytes]) -> Chart | None:
    """Add the pictures to the page's files; return what a template shows of them."""
    made |= drawn
    paths = dict(zip((theme.name for theme in THEMES), drawn, strict=False))
    return {**paths, "text": text} if drawn else None


def _card(
    measured: Measured, others: Sequence[Measured], slug: str, made: dict[str, bytes]
) -> str | None:
    """Write the card anew from the report, as HTML; what hubq didn't make has none."""
    if not isinstance(measured, Report):
        return None
    reports = [each for each in others if isinstance(each, Report)]
    card = contents(measured, siblings_of(measured, reports))
    images = f"{slug}-images"
    own = {path: content for path, content in card.items() if path.endswith(".png")}
    made |= {f"models/{images}/{Path(path).name}": content for path, content in own.items()}
    return _html(card[CARD].decode(), images)


def _html(card: str, images: str) -> str:
    """Render a card without its metadata: no HTML of its own passes, pictures are the folder's."""
    from huggingface_hub import ModelCard
    from markdown_it import MarkdownIt

    text = PICTURE.sub(lambda found: _as_markdown(found, images), ModelCard(card).text)
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    tokens = markdown.parse(text)
    for token in tokens:
        _settle(token)
        for inner in token.children or ():
            _settle(inner)
    return str(markdown.renderer.render(tokens, markdown.options, {}))


def _as_markdown(found: re.Match[str], images: str) -> str:
    """Spell a picture in markdown."""
    words = IN_MARKDOWN.sub(r"\\\1", unescape(found["alt"]))
    return f"![{words}]({images}/{Path(found['path']).name})"


def _settle(token: "Token") -> None:
    """Say by an attribute how a cell is aligned, and let no link tell where it was followed."""
    if style := token.attrs.pop("style", None):
        token.attrs["align"] = str(style).removeprefix("text-align:")
    if token.type == "link_open":
        token.attrs["rel"] = "nofollow noreferrer"


def _page(template: str, **values: object) -> bytes:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    ).get_template(template)
    return found.render(title=TITLE, **values).encode()
