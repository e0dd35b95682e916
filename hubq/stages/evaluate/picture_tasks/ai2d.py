"""AI2D: diagrams of science books, a question about each with lettered options.

Kembhavi et al. 2016 (https://arxiv.org/abs/1603.07396), asked as lmms-eval asks it.
"""

import re
import string
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar

from hubq.sources.pictures.rows import Row
from hubq.stages.evaluate.picture_benchmark import (
    Benchmark,
    Drawing,
    HubData,
    Item,
    Number,
    Unit,
    said,
)

if TYPE_CHECKING:
    from hubq.sources.pictures.drawn import Drawn

INSTRUCTION = "\nAnswer with the option's letter from the given choices directly."
LEADING = re.compile(r"\s*([A-Z])\.")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def lettered(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Give each option its letter."""
    return tuple(zip(string.ascii_uppercase, texts, strict=False))


def asked(question: str, options: Sequence[tuple[str, str]]) -> str:
    """Lay a question out with its options, a line each."""
    lines = [question, *(f"{letter}. {text}" for letter, text in options)]
    return "\n".join(lines) + INSTRUCTION


def is_right(answer: str, letter: str) -> bool:
    """Tell whether an answer is this letter: one that leads it before a full stop, or all of it.

    Neither case nor punctuation counts.
    """
    leading = LEADING.match(answer)
    return _plain(leading.group(1) if leading else answer) == _plain(letter)


def _plain(text: str) -> str:
    return text.strip().lower().translate(WITHOUT_PUNCTUATION)


class AI2D(Benchmark):
    """Which option is right, by its letter."""

    data: ClassVar[HubData | Drawing] = HubData("lmms-lab/ai2d", "test")
    columns: ClassVar = ("question", "options", "answer")
    new_tokens: ClassVar = 16
    rule: ClassVar = (
        "right where the letter before a full stop, or the whole answer, is the option's"
    )

    def item(self, row: Row) -> Item:
        """Read a question; its answer is the index of an option."""
        question, texts = row.text("question"), row.texts("options")
        if question is None or not texts or row.values.get("answer") is None:
            return Item("", ())
        answer = row.key("answer")
        if len(texts) > len(string.ascii_uppercase):
            raise row.refused("options", "at most 26 texts")
        if not answer.isdecimal() or int(answer) >= len(texts):
            raise row.refused("answer", f"the index of one of {len(texts)} options")
        options = lettered(texts)
        return Item(asked(question, options), (options[int(answer)][0],), options)

    def drawn(self, number: int, each: "Drawn") -> Iterator[Item]:
        """Yield the question about a drawn diagram."""
        options = lettered(each.options)
        yield Item(asked(each.question, options), each.answers, options)

    def numbers(self, units: Sequence[Unit]) -> Iterator[Number]:
        """Yield the share of right answers."""
        both = [unit[0] for unit in units]
        yield Number(
            "acc",
            tuple(float(is_right(each.text, each.item.right[0])) for each in both),
            said(units),
            chance=fmean(1 / len(each.item.options) for each in both),
        )
