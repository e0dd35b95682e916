"""MMBench: the prompt, how an answer is read, and circular evaluation."""

from collections.abc import Sequence
from typing import Any

import pytest

from hubq.errors import UserError
from hubq.sources.pictures.rows import Row
from hubq.stages.evaluate.picture_benchmark import Answered, Item
from hubq.stages.evaluate.picture_tasks.mmbench_en_dev import MMBench, read

OPTIONS = (("A", "a red bus"), ("B", "a blue bus"), ("C", "two trains"))
ROW: dict[str, Any] = {
    **{"index": 12, "question": "What is it?", "hint": "nan", "answer": "B"},
    **{"A": "bus", "B": "train", "C": None, "D": "nan"},
    **{"category": "object", "L2-category": "finegrained_perception"},
}


def item(**changed: object) -> Item:
    return MMBench().item(Row("row 1", {**ROW, **changed}))


def test_the_prompt_has_the_options_that_there_are_and_one_empty_line() -> None:
    assert item().prompt == (
        "What is it? There are several options:\nA. bus\nB. train\n\n"
        "Answer with the option's letter from the given choices directly."
    )


def test_a_hint_stands_before_the_question_on_its_line() -> None:
    assert item(hint="Look closely.").prompt.startswith(
        "Look closely. What is it? There are several options:\nA. bus"
    )
    assert item(hint=float("nan")).prompt == item(hint=None).prompt == item().prompt


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("B) a blue bus", "B"),
        ("(B)", "B"),
        ("(B).", "B"),
        (":B", "B"),
        ("It is B", "B"),
        ("A", "A"),
        ("A bus", "A"),  # two words: no article
        ("A bus is there B.", "B"),  # more than three: the lone A is one, so B. counts
        ("A red bus it is", "A"),  # by the option's text, as the lone A is an article
        ("A nice big thing", None),
        ("A B", None),  # two letters
        ("A. or B.", None),
        ("E", "E"),  # a letter that is no option here is an answer, and a wrong one
        ("a blue bus", "B"),  # the text of one option
        ("Two trains!", "C"),
        ("a red bus, a blue bus", None),
        ("Answer:B", "B"),
        ("The correct option is (C), I think", "C"),
        ("b", None),
        ("", None),
        ("zzz", None),
    ],
)
def test_an_answer_is_read_by_letter_then_by_text(answer: str, letter: str | None) -> None:
    assert read(answer, OPTIONS) == letter


def rotations(*letters: str) -> list[Item]:
    """Return a question in as many rotations as it has right letters."""
    return [item(index=12 + turn * 10**6, answer=each) for turn, each in enumerate(letters)]


def answered(items: Sequence[Item], said: str) -> list[Answered]:
    return [Answered(each, text) for each, text in zip(items, said, strict=True)]


def test_a_question_counts_only_if_all_its_rotations_are_right() -> None:
    units = [answered(rotations("A", "B"), "AB"), answered(rotations("A", "B"), "AA")]

    whole, ability = MMBench().numbers(units)

    assert (whole.value, whole.items, whole.part) == (0.5, (1.0, 0.0), None)
    assert (ability.value, ability.part) == (0.5, "finegrained_perception")


def test_who_likes_one_letter_best_gets_nothing() -> None:
    units = [answered(rotations("A", "B"), said) for said in ("AA", "BB")]

    assert next(iter(MMBench().numbers(units))).value == 0


def test_guessing_must_be_lucky_in_each_rotation() -> None:
    units = [answered(rotations("A", "B"), "AB"), answered(rotations("B"), "B")]

    assert next(iter(MMBench().numbers(units))).chance == (1 / 4 + 1 / 2) / 2


def test_rows_equal_modulo_a_million_are_one_question() -> None:
    assert {each.group for each in rotations("A", "B", "A")} == {"12"}


def test_an_index_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(UserError, match="index 12 stands there twice"):
        MMBench().check([[item(), item()]])


def test_rotations_without_their_question_are_refused() -> None:
    with pytest.raises(UserError, match="index 1000012 is a rotation of 12, which is not there"):
        MMBench().check([rotations("A", "B")[1:]])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"answer": "C"}, "answer should be the letter of one of its options, not 'C'"),
        ({"answer": 2}, "answer should be a text, not 2"),
        ({"index": -1}, "index should be a whole number, not -1"),
        ({"index": None}, "index should be a text or a whole number, not None"),
        ({"A": 5}, "A should be a text, not 5"),
    ],
)
def test_a_row_of_another_kind_is_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as raised:
        item(**changed)

    assert said in str(raised.value)
