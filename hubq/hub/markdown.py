"""Cards as HTML: no raw HTML passes, pictures come from the repo itself or not at all."""

from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict


def render(text: str, address: str) -> str:
    """Render Markdown; relative links lead into the repo whose page has this address."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    markdown.add_render_rule("image", _picture)
    markdown.add_render_rule("link_open", _link)
    return str(markdown.render(text, {"address": address}))


def _picture(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """Show a picture of the repo; name one from elsewhere, for a page loads nothing foreign."""
    token = tokens[index]
    source = str(token.attrs.get("src", ""))
    token.attrs["alt"] = self.renderInlineAsText(token.children or [], options, env)
    if urlsplit(source).scheme or source.startswith("//"):
        label = token.attrs["alt"] or "picture"
        text = Token("text", "", 0, content=f"[{label}]")
        return self.render([text], options, env)
    token.attrs["src"] = _inside(source, str(env["address"]))
    return self.renderToken(tokens, index, options, env)


def _link(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    token = tokens[index]
    target = str(token.attrs.get("href", ""))
    if not urlsplit(target).scheme and not target.startswith(("#", "/")):
        token.attrs["href"] = _inside(target, str(env["address"]))
    token.attrs["rel"] = "nofollow noreferrer"
    return self.renderToken(tokens, index, options, env)


def _inside(path: str, address: str) -> str:
    """Turn a path of the repo into the address of the file; what it holds is quoted already."""
    return f"/{quote(address)}/resolve/main/{path.removeprefix('./').lstrip('/')}"
