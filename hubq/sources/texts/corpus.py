"""A text that calibrates or measures: its documents joined, and what a report says of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from hubq.errors import UserError
from hubq.records.named_texts import BLANK_LINE

FIRST = 20  # documents that are looked at before anything is computed
LONGEST = 1 << 31  # characters of one text


@dataclass(frozen=True)
class Corpus:
    """A text and what a report says of it."""

    text: str
    title: str  # for people: which text
    version: str  # for machines: a revision or a sha256, and how its documents were joined


def require_text(found: Iterator[str], title: str) -> None:
    """Raise UserError where a reader refuses its first documents, or none holds any text."""
    first = list(islice(found, FIRST))
    if not any(each.strip() for each in first) and not any(each.strip() for each in found):
        raise UserError(_empty(title))


def joined_text(
    found: Iterable[str], title: str, *, between: str = BLANK_LINE, first: int | None = None
) -> str:
    """Join documents, all or the first so many; raise UserError when nothing is in them."""
    parts: list[str] = []
    length = 0
    for each in islice(found, first):
        parts.append(each)
        length += len(each) + len(between)
        if length > LONGEST:
            raise UserError(f"{title} has more than {LONGEST:,} characters; name a part of it")
    whole = between.join(parts)
    if not whole.strip():
        raise UserError(_empty(title))
    return whole


def _empty(title: str) -> str:
    return f"{title} holds no text; name another field or file"
