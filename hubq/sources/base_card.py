"""The head of a README.md, and what a base's says for its copies: license, languages, gate.

The YAML there was written by others: it is read as the Hub reads it, or refused. A license and a
gate stand in it, so what can't be read is an error and never "none".
"""

import codecs
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from hubq.errors import UserError
from hubq.machine.files import gigabytes
from hubq.records.plan import BaseCard, Gate
from hubq.records.vocabulary import is_language
from hubq.records.yaml_lines import CARD, parse

LARGEST = 20_000_000  # bytes of a README.md
_OPENING = re.compile(r"\A\s*---[ \t]*(?:\n|\Z)")
_WHOLE = re.compile(r"\A\s*---[ \t]*\n(.*?\n)?---[ \t]*(?:\n|\Z)", re.DOTALL)
GATING = "extra_gated_"  # how the keys begin that shape the Hub's form for access requests


class UnreadableCardError(UserError):
    """A card whose metadata can't be read; `head` is the text that should have said it."""

    def __init__(self, where: object, why: str, head: str) -> None:
        super().__init__(
            f"the metadata at the top of {where} can't be read ({why}), so its license and gate "
            "are not known.\n"
            "Correct it there, or set model.license in the recipe"
        )
        self.head = head


def front_matter(readme: bytes, where: object) -> tuple[dict[str, Any], str]:
    """Return a card's metadata and the text below; raise UserError where they can't be read."""
    if len(readme) > LARGEST:
        raise UserError(
            f"{where} has {gigabytes(len(readme))}, too much for a card. Move it elsewhere"
        )
    text = _decoded(readme).replace("\r\n", "\n").replace("\r", "\n")
    if not _OPENING.match(text):
        return {}, text
    found = _WHOLE.match(text)
    if found is None:
        raise UnreadableCardError(where, "it has no closing --- line", text)
    head = found[1] or ""
    marked = parse(head, CARD)
    if marked.mistakes:
        line, sentence = marked.mistakes[0]
        above = text[: len(found[0])].index("---")
        line += 1 + text[:above].count("\n")
        raise UnreadableCardError(where, f"line {line}: {sentence}", head)
    if not isinstance(marked.values, dict | None):
        raise UnreadableCardError(where, "it is not a mapping of keys to values", head)
    return marked.values or {}, text[found.end() :]


def with_front_matter(metadata: Mapping[str, Any], text: str) -> str:
    """Put metadata at the head of a text, where `front_matter` and the Hub read them."""
    head = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{head}---\n{text}"


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


def base_card(card: Mapping[str, Any], gated: object = None) -> BaseCard:
    """Pick what copies carry on from a card's metadata and the Hub's word on the repo's gate."""
    plain = json.loads(json.dumps(dict(card), default=str))  # YAML has dates, records have not
    form = {key: value for key, value in plain.items() if key.startswith(GATING)}
    named = plain.get("language")
    languages = named if isinstance(named, list) else [named]
    if gated is None:
        gate: Gate | None = "unknown" if form else None
    else:
        gate = _gate(gated)
    return BaseCard(
        gate=gate,
        extra_gated=form,
        language=tuple(each for each in languages if is_language(each)),
        license=license_of(plain),
    )


def known_card(
    read: Callable[[], Mapping[str, Any]], license: str | None, gated: object = None
) -> BaseCard:
    """Pick from a card that may be unreadable: that is an error unless the license is given.

    Of its gate the worst is supposed then.
    """
    try:
        return base_card(read(), gated)
    except UnreadableCardError as error:
        if license is None:
            raise
        form = {GATING: ""} if GATING in error.head else {}
        return base_card(form, gated).model_copy(update={"extra_gated": {}})


def license_of(card: Mapping[str, Any]) -> str | None:
    """Return the license's id: `license`, or `license_name` where that says only "other"."""
    found = card.get("license")
    if isinstance(found, list):
        found = found[0] if found else None
    if found == "other":
        found = card.get("license_name") or found
    return None if found is None else str(found)


def _gate(gated: object) -> Gate | None:
    """Read the API's `gated`: false, auto or manual."""
    match gated:
        case "auto":
            return "auto"
        case "manual":
            return "manual"
        case _:
            return "unknown" if gated else None
