"""ChartQA: questions about charts, asked by people and made by machines, scored with 5 % of slack.

Masry et al. 2022 (https://arxiv.org/abs/2203.10244), asked as lmms-eval asks it. lm-eval's task of
this name asks for reasoning first, of models that it loads itself; hubq's is this one.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from hubq.sources.pictures.rows import Row
from hubq.stages.evaluate.picture_benchmark import (
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

INSTRUCTION = "\nAnswer the question with a single word."
PARTS = {"human_test": "human", "augmented_test": "augmented"}
SLACK = 0.05


def relaxed(answer: str, right: str) -> bool:
    """Tell whether a number is within 5 % of the right one, or a word is the same but for case.

    A percent sign at the end divides by 100, on the side where it stands. Zero is compared as a
    word, and so is what Python's float() doesn't read, such as 1,234.
    """
    said, wanted = _number(answer), _number(right)
    if said is not None and wanted:
        return abs(said - wanted) / abs(wanted) <= SLACK
    return answer.lower() == right.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


class ChartQA(Benchmark):
    """A number or a word that a chart shows."""

    data: ClassVar[HubData | Drawing] = HubData("lmms-lab/ChartQA", "test")
    columns: ClassVar = ("question", "answer", "type")
    new_tokens: ClassVar = 16
    limited_by_part: ClassVar = True
    rule: ClassVar = "relaxed accuracy: numbers within 5 %, words the same but for case"

    def item(self, row: Row) -> Item:
        """Read a question; who asked it is a part of the task."""
        question, answer, kind = row.text("question"), row.text("answer"), row.text("type")
        if kind not in PARTS:
            raise row.refused("type", " or ".join(PARTS))
        right = () if answer is None else (answer,)
        return Item(question + INSTRUCTION if question else "", right, part=PARTS[kind])

    def drawn(self, number: int, each: "Drawn") -> Iterator[Item]:
        """Yield the question about a drawn chart."""
        yield Item(each.question + INSTRUCTION, each.answers)

    def numbers(self, units: Sequence[Unit]) -> Iterator[Number]:
        """Yield the share of right answers, of all and of each part."""
        yield _accuracy(units, None)
        for part, some in parts(units).items():
            if part:
                yield _accuracy(some, part)


def _accuracy(units: Sequence[Unit], part: str | None) -> Number:
    right = (any(relaxed(each.text, right) for right in each.item.right) for (each,) in units)
    return Number("relaxed_accuracy", tuple(map(float, right)), said(units), part)
