"""<picture> in cards: the one piece of raw HTML that a page shows, rebuilt from what it may hold.

Cards use it for pictures that suit light and dark pages. Nothing of the card's own HTML goes out:
the parser takes the few attributes that it knows, and whatever else is there makes it text again.
"""

import re
from collections.abc import Callable
from html import escape
from html.parser import HTMLParser

BEGIN, END = "<picture>", "</picture>"
LINES = 40  # that one picture may take
MEDIA = frozenset({"(prefers-color-scheme: dark)", "(prefers-color-scheme: light)"})
WIDTH = re.compile(r"\d{1,4}")
ALLOWED = {
    "picture": frozenset[str](),
    "source": frozenset({"media", "srcset"}),
    "img": frozenset({"src", "alt", "width"}),
}
Locate = Callable[[str], str | None]  # a picture's address on the page; None: it is foreign


class _Reader(HTMLParser):
    """Collects the tags of a picture, and notes whether there was anything else."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.depth = 0
        self.is_plain = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        known = ALLOWED.get(tag)
        self.is_plain &= known is not None and values.keys() <= known and len(values) == len(attrs)
        self.is_plain &= (tag == "picture") == (not self.tags)
        self.tags.append((tag, values))

    def handle_endtag(self, tag: str) -> None:
        self.is_plain &= tag in ALLOWED

    def handle_data(self, data: str) -> None:
        self.is_plain &= not data.strip()

    def handle_comment(self, data: str) -> None:
        self.is_plain = False

    def handle_decl(self, decl: str) -> None:
        self.is_plain = False

    def handle_pi(self, data: str) -> None:
        self.is_plain = False

    def unknown_decl(self, data: str) -> None:
        self.is_plain = False


def rebuilt(text: str, locate: Locate) -> str | None:
    """Return the picture as safe HTML; None where the text is more or less than one picture."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    if not reader.is_plain or [tag for tag, _ in reader.tags].count("img") != 1:
        return None
    sources = [_source(values, locate) for tag, values in reader.tags if tag == "source"]
    image = _image(next(values for tag, values in reader.tags if tag == "img"), locate)
    return f"{BEGIN}{''.join(sources)}{image}{END}\n"


def _source(values: dict[str, str], locate: Locate) -> str:
    """Return the tag, or nothing where it leads elsewhere or asks something that is not known."""
    place = locate(values.get("srcset", ""))
    media = values.get("media", "")
    if place is None or media not in MEDIA:
        return ""
    return f'<source media="{escape(media)}" srcset="{escape(place)}">'


def _image(values: dict[str, str], locate: Locate) -> str:
    """Return the tag; for a foreign picture, what it says."""
    place, alt = locate(values.get("src", "")), escape(values.get("alt", ""))
    if place is None:
        return f"[{alt or 'picture'}]"
    width = values.get("width", "")
    size = f' width="{width}"' if WIDTH.fullmatch(width) else ""
    return f'<img src="{escape(place)}" alt="{alt}"{size}>'
