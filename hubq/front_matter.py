"""The YAML at the head of a README.md that others wrote: read as the Hub reads it, or refused.

A licence and a gate stand there, so what can't be read is an error and never "none".
"""

import codecs
import re
from pathlib import Path
from typing import Any

from hubq.errors import UserError
from hubq.machine.files import gigabytes
from hubq.records.yaml_lines import CARD, parse

LARGEST = 20_000_000  # bytes of a README.md
_OPENING = re.compile(r"\A\s*---[ \t]*(?:\n|\Z)")
_WHOLE = re.compile(r"\A\s*---[ \t]*\n(.*?\n)?---[ \t]*(?:\n|\Z)", re.DOTALL)


class UnreadableCardError(UserError):
    """A card whose metadata can't be read; `head` is the text that should have said it."""

    def __init__(self, where: object, why: str, head: str) -> None:
        super().__init__(
            f"the metadata at the head of {where} can't be read ({why}), so its licence and its "
            "gate are not known.\nMend it there; or, for a recipe, say model.license"
        )
        self.head = head


def front_matter(readme: bytes, where: object) -> tuple[dict[str, Any], str]:
    """Return a card's metadata and the text below; raise UserError where they can't be read."""
    if len(readme) > LARGEST:
        raise UserError(f"{where} has {gigabytes(len(readme))}: no card. Move it elsewhere")
    text = _decoded(readme).replace("\r\n", "\n").replace("\r", "\n")
    if not _OPENING.match(text):
        return {}, text
    found = _WHOLE.match(text)
    if found is None:
        raise UnreadableCardError(where, "no second line of --- ends it", text)
    head = found[1] or ""
    marked = parse(head, CARD)
    if marked.mistakes:
        line, sentence = marked.mistakes[0]
        above = text[: len(found[0])].index("---")
        line += 1 + text[:above].count("\n")
        raise UnreadableCardError(where, f"line {line}: {sentence}", head)
    if not isinstance(marked.values, dict | None):
        raise UnreadableCardError(where, "it is no mapping of keys to values", head)
    return marked.values or {}, text[found.end() :]


def card_in(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the metadata and the text of a folder's README.md; empty where there is none."""
    path = folder / "README.md"
    return front_matter(path.read_bytes(), path) if path.is_file() else ({}, "")


def _decoded(readme: bytes) -> str:
    """Decode a text by its byte order mark, else as UTF-8."""
    for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        if readme.startswith(mark):
            return readme.decode("utf-16", "replace")
    return readme.decode("utf-8-sig", "replace")
