"""Cards as HTML: no raw HTML passes, images come from the repo itself or not at all.

Cards use <picture> for images that suit light and dark pages. It is the one piece of raw HTML that
a page shows, rebuilt from what it may hold: the parser takes the few attributes that it knows, and
whatever else is there makes it text again, where a sanitizer would drop it without a word.
"""

import re
from collections.abc import Callable, Sequence
from html import escape
from html.parser import HTMLParser
from urllib.parse import quote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from hubq.records.vocabulary import PUBLIC_HUB

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


def render(text: str, address: str) -> str:
    """Render Markdown; relative links lead into the repo whose page has this address."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    markdown.block.ruler.before("paragraph", "picture", _picture_block)
    markdown.add_render_rule("picture", _as_it_is)
    markdown.add_render_rule("image", _picture)
    markdown.add_render_rule("link_open", _link)
    markdown.add_render_rule("th_open", _aligned)
    markdown.add_render_rule("td_open", _aligned)
    return str(markdown.render(text, {"address": address}))


def _picture_block(state: StateBlock, first: int, end: int, silent: bool) -> bool:
    """Take the lines from <picture> to </picture> as one block, if that is all they hold."""
    if state.is_code_block(first) or not _line(state, first).startswith(BEGIN):
        return False
    nearby = range(first, min(end, first + LINES))
    last = next((line for line in nearby if END in _line(state, line)), None)
    if last is None or any(state.isEmpty(line) for line in range(first, last)):
        return False
    text = state.getLines(first, last + 1, state.blkIndent, False)
    address = str(state.env["address"])
    html = _rebuild_picture(text, lambda path: located(path, address))
    if html is None:
        return False
    if not silent:
        token = state.push("picture", "", 0)
        token.content, token.map = html, [first, last + 1]
        state.line = last + 1
    return True


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]]


def _as_it_is(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    return tokens[index].content


def _picture(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """Show a picture of the repo; name one from elsewhere, for a page loads nothing foreign."""
    token = tokens[index]
    token.attrs["alt"] = self.renderInlineAsText(token.children or [], options, env)
    place = located(str(token.attrs.get("src", "")), str(env["address"]))
    if place is None:
        label = token.attrs["alt"] or "picture"
        text = Token("text", "", 0, content=f"[{label}]")
        return self.render([text], options, env)
    token.attrs["src"] = place
    return self.renderToken(tokens, index, options, env)


def _aligned(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """Say by an attribute how a cell is aligned: the page's policy lets no style in."""
    token = tokens[index]
    if style := token.attrs.pop("style", None):
        token.attrs["align"] = str(style).removeprefix("text-align:")
    return self.renderToken(tokens, index, options, env)


def _link(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    token = tokens[index]
    target = str(token.attrs.get("href", ""))
    if _has_scheme(target) is False and not target.startswith(("#", "/")):
        token.attrs["href"] = _inside(target, str(env["address"]))
    token.attrs["rel"] = "nofollow noreferrer"
    return self.renderToken(tokens, index, options, env)


def located(source: str, address: str) -> str | None:
    """Return where the page finds a picture of its own repo; None for one from elsewhere."""
    # A card that names a file of its own repo there means this one.
    source = source.removeprefix(f"{PUBLIC_HUB}/{quote(address)}/resolve/main/")
    if not source or _has_scheme(source) is not False or source.startswith("//"):
        return None
    return _inside(source, address)


def _has_scheme(address: str) -> bool | None:
    """Tell whether an address has a scheme; None when it is no address at all."""
    try:
        return bool(urlsplit(address).scheme)
    except ValueError:  # such as http://[
        return None


def _inside(path: str, address: str) -> str:
    """Turn a path of the repo into the address of the file; what it holds is quoted already."""
    return f"/{quote(address)}/resolve/main/{path.removeprefix('./').lstrip('/')}"


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


def _rebuild_picture(text: str, locate: Locate) -> str | None:
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
