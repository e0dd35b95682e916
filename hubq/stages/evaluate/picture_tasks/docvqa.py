"""DocVQA: questions about scanned pages, scored by how near an answer is to a right one.

Mathew et al. 2021 (https://arxiv.org/abs/2007.00398); the metric, ANLS, is of Biten et al. 2019
(https://arxiv.org/abs/1905.13648). Asked and scored as lmms-eval does, on the validation split: the
answers of the test split are kept by its makers.
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
    said,
)

if TYPE_CHECKING:
    from hubq.sources.pictures.drawn import Drawn

INSTRUCTION = "\nAnswer the question using a single word or phrase."
THRESHOLD = 0.5  # a likeness below counts nothing


def anls(answer: str, right: Sequence[str]) -> float:
    """Return the likeness of an answer to the nearest right one, in [0, 1]; below 0.5 it is 0.

    The distance is that of the texts in lower case with single blanks, the length it is divided by
    that of the texts as they are: so lmms-eval has it.
    """
    likeness = 1 - min(_distance(answer, each) for each in right)
    return likeness if likeness >= THRESHOLD else 0.0


def _distance(answer: str, right: str) -> float:
    length, texts = max(len(answer), len(right)), (_plain(answer), _plain(right))
    if abs(len(texts[0]) - len(texts[1])) > THRESHOLD * length:
        return 1.0  # farther than counts, so that no long text has to be gone through
    return levenshtein(*texts) / length if length else 0.0


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def levenshtein(first: str, second: str) -> int:
    """Return how many letters have to be put in, taken out or changed to make one of the other."""
    above = list(range(len(second) + 1))
    for row, letter in enumerate(first, start=1):
        current = [row]
        for column, other in enumerate(second, start=1):
            changed = above[column - 1] + (letter != other)
            current.append(min(above[column] + 1, current[-1] + 1, changed))
        above = current
    return above[-1]


class DocVQA(Benchmark):
    """A word or phrase that stands in a document."""

    data: ClassVar[HubData | Drawing] = HubData("lmms-lab/DocVQA", "validation", "DocVQA")
    columns: ClassVar = ("questionId", "question", "answers")
    new_tokens: ClassVar = 32
    rule: ClassVar = "ANLS: likeness to the nearest right answer by letters, nothing below a half"

    def item(self, row: Row) -> Item:
        """Read a question and all its right answers."""
        question, answers = row.text("question"), row.texts("answers")
        row.key("questionId")
        return Item(question + INSTRUCTION if question else "", answers)

    def drawn(self, number: int, each: "Drawn") -> Iterator[Item]:
        """Yield the question about a drawn document."""
        yield Item(each.question + INSTRUCTION, each.answers)

    def numbers(self, units: Sequence[Unit]) -> Iterator[Number]:
        """Yield the mean likeness."""
        likeness = tuple(anls(each.text, each.item.right) for (each,) in units)
        yield Number("anls", likeness, said(units))
