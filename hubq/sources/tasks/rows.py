"""What a line of a data file must hold to be an item, and what becomes of it.

Options are one string, "A. first\\nB. second", and the answer is one of these lines. None stands
for a line that doesn't parse so: it is no item.
"""

import re
from collections.abc import Mapping
from typing import Any

# How BBQ's third answer says that the text doesn't tell, in all its spellings.
UNKNOWN = frozenset(
    {
        *("Unknown", "Undetermined", "Not known", "Not answerable", "Not enough info"),
        *("Not enough information", "Cannot answer", "Cannot be determined"),
        *("Can't answer", "Can't be determined"),
    }
)

Raw = Mapping[str, Any]  # a line of a file
Row = dict[str, Any]  # question, perhaps passage; choices; gold, the right choice's index


def lettered(options: object) -> list[str]:
    """Return the texts of options that are lettered in order; nothing where they are malformed."""
    if not isinstance(options, str):
        return []
    pieces = re.split(r"(?:^|\n)([A-Z])\. ", options)
    letters, choices = pieces[1::2], [choice.strip() for choice in pieces[2::2]]
    in_order = letters == [chr(ord("A") + index) for index in range(len(choices))]
    return choices if in_order and not pieces[0] and len(choices) > 1 and "" not in choices else []


def chosen(raw: Raw) -> Row | None:
    """Read a row with lettered options, or None where they or the answer are malformed."""
    choices = lettered(raw.get("options"))
    answer = re.fullmatch(r"([A-Z])\. (.*)", str(raw.get("answer")), flags=re.DOTALL)
    if answer is None or not raw.get("question"):
        return None
    gold, text = ord(answer.group(1)) - ord("A"), answer.group(2).strip()
    if gold >= len(choices) or choices[gold] != text:
        return None
    return {"question": raw["question"], "choices": choices, "gold": gold}


def about_a_passage(raw: Raw) -> Row | None:
    """Read a row with a passage before its question."""
    row = chosen(raw)
    return {**row, "passage": raw["passage"]} if row and raw.get("passage") else None


def yes_or_no(raw: Raw) -> Row | None:
    """Read a row of BoolQ, or None where its answer is neither True nor False."""
    complete = raw.get("question") and raw.get("passage")
    if not complete or raw.get("answer") not in ("True", "False"):
        return None
    return {
        "question": raw["question"],
        "passage": raw["passage"],
        "choices": ["no", "yes"],
        "gold": int(raw["answer"] == "True"),
    }


def biased(raw: Raw) -> Row | None:
    """Read a row of BBQ, where one of three choices is that the text doesn't tell."""
    choices, answers = lettered(raw.get("options")), raw.get("answer")
    right = str(answers[0]).strip() if isinstance(answers, list) and len(answers) == 1 else None
    unknown = [choice for choice in choices if choice in UNKNOWN]
    complete = raw.get("question") and raw.get("passage")
    if not complete or len(choices) != 3 or len(unknown) != 1 or right not in choices:
        return None
    return {
        "question": raw["question"].partition("\n")[0],  # an instruction follows
        "passage": raw["passage"],
        "choices": choices,
        "gold": choices.index(right),
        "ambiguous": right in unknown,
    }


def summarized(raw: Raw) -> Row | None:
    """Read a document with its summary."""
    row = {name: str(raw.get(name) or "").strip() for name in ("document", "summary")}
    return row if all(row.values()) else None
