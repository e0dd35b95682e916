"""Cards as HTML: no raw HTML passes, pictures come from the repo itself or not at all."""

from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from hubq.embedded_hub import picture

PUBLIC = "https://huggingface.co"  # a card that names a file of its own repo there means this one


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
    if state.is_code_block(first) or not _line(state, first).startswith(picture.BEGIN):
        return False
    nearby = range(first, min(end, first + picture.LINES))
    last = next((line for line in nearby if picture.END in _line(state, line)), None)
    if last is None or any(state.isEmpty(line) for line in range(first, last)):
        return False
    text = state.getLines(first, last + 1, state.blkIndent, False)
    address = str(state.env["address"])
    html = picture.rebuilt(text, lambda path: located(path, address))
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
    source = source.removeprefix(f"{PUBLIC}/{quote(address)}/resolve/main/")
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
