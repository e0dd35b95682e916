"""MME: two yes/no questions about each picture, of which one is to be denied, in 14 categories.

Fu et al. 2023 (https://arxiv.org/abs/2306.13394), asked and scored as lmms-eval does. acc is the
share of right answers, acc+ that of pictures with both right; a category's score is the sum of both
in percent, at most 200. Perception sums ten categories, cognition four. Who always says yes gets
50 in each.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import fsum
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

INSTRUCTION = "\nAnswer the question using a single word or phrase."
REPLACED = " Please answer yes or no."
SUMS: Mapping[str, tuple[str, ...]] = {
    "perception": (
        *("existence", "count", "position", "color", "posters"),
        *("celebrity", "scene", "landmark", "artwork", "OCR"),
    ),
    "cognition": (
        *("commonsense_reasoning", "numerical_calculation"),
        *("text_translation", "code_reasoning"),
    ),
}
CATEGORIES = frozenset(category for some in SUMS.values() for category in some)
BY_A_COIN = 75.0  # a category's score: half of the answers, and both for a quarter of the pictures
BY_YES = 50.0  # and who says yes to everything: half of the answers, and both for no picture
ANSWERS = ("yes", "no")
BEGINNING = 4  # letters in which yes or no is looked for


def read(answer: str) -> str:
    """Read an answer as yes, no or other, by its first four letters; so `none` and `now` are no."""
    plain = answer.lower().strip().replace(".", "")
    if plain in ("y", "n"):
        return {"y": "yes", "n": "no"}[plain]
    if len(plain) == 1:
        return "other"
    return next((each for each in ANSWERS if each in plain[:BEGINNING]), "other")


class MME(Benchmark):
    """Yes or no."""

    data: ClassVar[HubData | Drawing] = HubData("lmms-lab/MME", "test")
    columns: ClassVar = ("question_id", "question", "answer", "category")
    new_tokens: ClassVar = 16
    asked_by: ClassVar = "pictures"
    limited_by_part: ClassVar = True
    rule: ClassVar = "yes or no by the first four letters"

    def item(self, row: Row) -> Item:
        """Read a question; both about a picture have its question_id in common."""
        question, answer, category = row.text("question"), row.text("answer"), row.text("category")
        if category not in CATEGORIES:
            raise row.refused("category", f"one of MME's {len(CATEGORIES)}")
        right = self._right(row, answer)
        prompt = question.strip().replace(REPLACED, "") + INSTRUCTION if question else ""
        return Item(prompt, right, group=f"{category}: {row.key('question_id')}", part=category)

    def _right(self, row: Row, answer: str | None) -> tuple[str, ...]:
        plain = (answer or "").lower().strip().replace(".", "")
        if answer is not None and plain not in ANSWERS:
            raise row.refused("answer", "Yes or No")
        return (plain,) if plain else ()

    def drawn(self, number: int, each: "Drawn") -> Iterator[Item]:
        """Yield one of the two questions about a drawn picture."""
        right = (each.answers[0].lower(),)
        yield Item(each.question + INSTRUCTION, right, group=each.group, part="drawn")

    def check(self, units: Sequence[Sequence[Item]]) -> None:
        """Raise UserError where a picture has more or fewer than two questions."""
        for unit in units:
            if len(unit) != 2:
                raise UserError(
                    f"{unit[0].group} has {len(unit)} question{'s' * (len(unit) > 1)}, where each "
                    "picture of MME has two; the data is damaged: use another task"
                )

    def numbers(self, units: Sequence[Unit]) -> Iterator[Number]:
        """Yield the sums, the shares, and the score of each category."""
        known = parts(units)
        for name, categories in SUMS.items():
            if all(category in known for category in categories):
                yield _sum(name, [known[category] for category in categories])
        right = tuple(float(_is_right(each)) for unit in units for each in unit)
        texts = tuple(each.text for unit in units for each in unit)
        yield Number("acc", right, texts, chance=0.5)
        both = tuple(float(all(map(_is_right, unit))) for unit in units)
        yield Number("acc+", both, said(units), chance=0.25)
        for category, some in known.items():
            part = category if category in CATEGORIES else None
            yield _sum("score", [some], part)


def _sum(name: str, categories: Sequence[Sequence[Unit]], part: str | None = None) -> Number:
    """Sum the scores of categories."""
    units = [unit for some in categories for unit in some]
    strata = (number for number, some in enumerate(categories) for _ in some)
    return Number(
        name,
        tuple(map(_score, units)),
        said(units),
        part,
        chance=BY_A_COIN * len(categories),
        strata=tuple(strata),
        remark=_sanity(len(categories)),
    )


def _sanity(categories: int) -> str:
    return f"of {200 * categories}; to say yes to everything gives {BY_YES * categories:.0f}"


def _score(unit: Unit) -> float:
    """Return acc + acc+ of a picture, in percent."""
    right = [_is_right(each) for each in unit]
    return 100 * fsum(right) / len(right) + 100 * all(right)


def _is_right(each: Answered) -> bool:
    return read(each.text) == each.item.right[0]
