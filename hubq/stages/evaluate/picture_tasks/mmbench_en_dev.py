"""MMBench (English, dev): lettered options, right where they are in each of their rotations.

Liu et al. 2023 (https://arxiv.org/abs/2307.06281), asked as lmms-eval asks it. Rows whose index is
the same modulo a million are one question with rotated options: it counts if all are right, so that
who likes one letter best gets nothing. Answers are read by rules alone, as in lmms-eval's static
variant: its other one asks a company's model to read what the rules can't.
"""

import re
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar

from hubq.errors import UserError
from hubq.sources.pictures.rows import Row
from hubq.stages.evaluate.picture_benchmark import (
    Answered,
    Benchmark,
    Drawing,
    HubData,
    Item,
    Number,
    Unit,
    parts,
    said,
)

if TYPE_CHECKING:
    from hubq.sources.pictures.drawn import Drawn

LETTERS = "ABCDE"
INSTRUCTION = "Answer with the option's letter from the given choices directly."
ROTATIONS = 1_000_000  # an index modulo this names a question; those below are as they were made
AROUND = (  # what may stand around a letter, in the order in which it is looked for
    *(("", ""), ("", "."), ("", ","), ("", ":"), ("", ")"), ("", ")."), ("(", ")"), ("(", ").")),
    *((":", ""), (":", ","), (":", "."), (":", ")"), (":", ").")),
)
ARTICLE_BEYOND = 3  # words; in more of them a lone A is taken for an article
DECLARED = re.compile(r"\b(?:answer|option|choice)\s*(?:is\b|[:=])\s*\(?([A-E])\b", re.IGNORECASE)


def read(answer: str, options: Sequence[tuple[str, str]]) -> str | None:
    """Read the letter that an answer names; None: it names none, or more than one.

    By a letter that stands alone or decorated, else by an option's text, else by "answer is B".
    """
    return _by_letter(answer) or _by_text(answer, options) or _by_declaration(answer)


def _by_letter(answer: str) -> str | None:
    words = answer.split()
    for number, (before, after) in enumerate(AROUND):
        found = [letter for letter in LETTERS if f"{before}{letter}{after}" in words]
        article = number == 0 and "A" in words and len(words) > ARTICLE_BEYOND
        if len(found) == 1 and not article:
            return found[0]
    return None


def _by_text(answer: str, options: Sequence[tuple[str, str]]) -> str | None:
    lower = answer.lower()
    found = [letter for letter, text in options if text.lower() in lower]
    return found[0] if len(found) == 1 else None


def _by_declaration(answer: str) -> str | None:
    found = DECLARED.findall(answer)
    return found[-1].upper() if found else None


def asked(question: str, options: Sequence[tuple[str, str]], hint: str | None = None) -> str:
    """Lay a question out: it on one line with the hint before it, the options a line each."""
    lines = [f"{hint} " if hint else "", question, " There are several options:"]
    listed = "".join(f"\n{letter}. {text}" for letter, text in options)
    return f"{''.join(lines)}{listed}\n\n{INSTRUCTION}"


class MMBench(Benchmark):
    """Which option is right, whatever its letter is."""

    data: ClassVar[HubData | Drawing] = HubData("lmms-lab/MMBench", "dev", "en")
    columns: ClassVar = (
        *("index", "question", "hint", "answer", "A", "B", "C", "D"),
        *("category", "L2-category"),
    )
    optional: ClassVar = ("E",)
    new_tokens: ClassVar = 16
    asked_by: ClassVar = "questions in all their rotations"
    rule: ClassVar = "a question counts if the letter is right in all its rotations"

    def item(self, row: Row) -> Item:
        """Read one rotation of a question; an ability (L2-category) is a part of the task."""
        index, question, answer = row.key("index"), row.text("question"), row.text("answer")
        if not index.isdecimal():
            raise row.refused("index", "a whole number")
        options = [(each, text) for each in LETTERS if (text := row.text(each))]
        if answer is not None and answer not in dict(options):
            raise row.refused("answer", "the letter of one of its options")
        return Item(
            asked(question, options, row.text("hint")) if question else "",
            () if answer is None else (answer,),
            tuple(options),
            group=str(int(index) % ROTATIONS),
            part=row.text("L2-category") or "",
            name=index,
        )

    def drawn(self, number: int, each: "Drawn") -> Iterator[Item]:
        """Yield all rotations of the question about a drawn picture."""
        right = each.options[LETTERS.index(each.answers[0])]
        for turn in range(len(each.options)):
            turned = each.options[turn:] + each.options[:turn]
            options = tuple(zip(LETTERS, turned, strict=False))
            letter = LETTERS[turned.index(right)]
            name = str(turn * ROTATIONS + number)
            yield Item(asked(each.question, options), (letter,), options, str(number), name=name)

    def check(self, units: Sequence[Sequence[Item]]) -> None:
        """Raise UserError for an index that stands there twice, or rotations of nothing."""
        for unit in units:
            names = [item.name for item in unit]
            if len(set(names)) < len(names):
                raise UserError(
                    f"index {max(names, key=names.count)} stands there twice, so it is not known "
                    "which row is meant; the data is damaged: use another task"
                )
            if unit[0].group not in names:
                raise UserError(
                    f"index {names[0]} is a rotation of {unit[0].group}, which is not there; the "
                    "data is damaged: use another task"
                )

    def numbers(self, units: Sequence[Unit]) -> Iterator[Number]:
        """Yield the share of questions that are right in all rotations, and of each ability."""
        yield _accuracy(units, None)
        for part, some in parts(units).items():
            if part:
                yield _accuracy(some, part)


def _accuracy(units: Sequence[Unit], part: str | None) -> Number:
    right = tuple(float(all(map(_is_right, unit))) for unit in units)
    return Number("circular_accuracy", right, said(units), part, fmean(map(_by_chance, units)))


def _is_right(each: Answered) -> bool:
    return read(each.text, each.item.options) == each.item.right[0]


def _by_chance(unit: Unit) -> float:
    """Return how often guesses are right in all rotations."""
    share = 1.0
    for each in unit:
        share /= len(each.item.options)
    return share
