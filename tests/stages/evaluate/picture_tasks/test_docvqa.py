"""DocVQA: the prompt, and ANLS."""

import random

import pytest

from hubq.errors import UserError
from hubq.sources.pictures.rows import Row
from hubq.stages.evaluate.picture_benchmark import Answered
from hubq.stages.evaluate.picture_tasks.docvqa import DocVQA, anls, levenshtein

ROW = {"questionId": "9", "question": "Which year?", "answers": ["1998", "in 1998"]}


def test_the_prompt_asks_for_a_word_or_phrase() -> None:
    item = DocVQA().item(Row("row 1", ROW))

    assert item.prompt == "Which year?\nAnswer the question using a single word or phrase."
    assert item.right == ("1998", "in 1998")


@pytest.mark.parametrize(
    ("answer", "right", "likeness"),
    [
        ("1998", ["1998"], 1),
        ("1999", ["1998"], 0.75),
        ("ab", ["ax"], 0.5),  # a half counts
        ("abc", ["axy"], 0),  # a third does not
        ("Smith", ["SMITH"], 1),  # case does not count
        ("Smith  Co", ["smith co"], 1),  # nor do blanks ...
        # ... but the length is that of the raw text: one letter away of 10, not of 8.
        ("Smith   Ca", ["smith co"], 0.9),
        ("in 1998", ["1998", "in 1998"], 1),  # the nearest right answer
        ("kitten", ["sitting"], 1 - 3 / 7),
        ("", ["1998"], 0),
        ("", [""], 1),
        ("a" * 100, ["a" * 1_000_000], 0),  # which is known without a trillion steps
        ("a" * 100, ["a" * 200], 0.5),
        ("a" * 100, ["a" * 201], 0),
    ],
)
def test_anls_is_the_likeness_to_the_nearest_answer(
    answer: str, right: list[str], likeness: float
) -> None:
    assert anls(answer, right) == pytest.approx(likeness)


def test_levenshtein_agrees_with_another_program() -> None:
    from nltk import edit_distance

    draw = random.Random(0)
    for _ in range(50):
        first, second = ("".join(draw.choices("abc", k=draw.randrange(9))) for _ in "12")

        assert levenshtein(first, second) == edit_distance(first, second)


def test_the_score_is_the_mean_likeness() -> None:
    item = DocVQA().item(Row("row 1", ROW))

    (number,) = DocVQA().numbers([(Answered(item, "1998"),), (Answered(item, "1999"),)])

    assert (number.metric, number.value, number.items) == ("anls", 0.875, (1.0, 0.75))


def test_a_row_without_answers_is_no_item() -> None:
    assert not DocVQA().item(Row("row 1", {**ROW, "answers": None})).complete
    assert not DocVQA().item(Row("row 1", {**ROW, "answers": []})).complete


def test_one_text_in_place_of_a_list_of_answers_is_refused() -> None:
    with pytest.raises(UserError, match="row 1: answers should be a list of texts, not '1998'"):
        DocVQA().item(Row("row 1", {**ROW, "answers": "1998"}))
