"""How the card writes texts; its digits are those of hubq/records/number_format.py."""

import re

from hubq.records.number_format import (
    NOT_MEASURED,
    difference,
    judged,
    number,
    percent,
    ranged,
    share,
    signed,
    uncertain,
)

# What would end a cell or begin a tag, and what would end an attribute.
MARKDOWN = str.maketrans({"|": "\\|", "<": "&lt;"})
ATTRIBUTE = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})


def cell(text: str) -> str:
    """Escape a text so that it stays inside its cell of a markdown table."""
    return " ".join(text.split()).translate(MARKDOWN)


def tight(text: str) -> str:
    """Keep a number with what belongs to it: a line may break before its interval or its error."""
    return re.sub(r" (?![(±])", "\u00a0", text)


def quoted(text: str) -> str:
    """Escape a text for the inside of an HTML attribute."""
    return " ".join(text.split()).translate(ATTRIBUTE)


def sentence(text: str) -> str:
    """Begin a text with a capital and end it with a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def listed(words: list[str]) -> str:
    """Join words as a sentence does."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def fence(text: str) -> str:
    """Return a fence for a block of code that the text cannot end."""
    longest = max((len(each) for each in re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)


# What templates call.
SPELLING = {
    "not_measured": NOT_MEASURED,
    "number": number,
    "uncertain": uncertain,
    "percent": percent,
    "share": share,
    "difference": difference,
    "judged": judged,
    "ranged": ranged,
    "signed": signed,
    "fence": fence,
}
