"""AI2D: the prompt, and how a letter is read."""

import pytest

from hubq.errors import UserError
from hubq.sources.pictures.rows import Row
from hubq.stages.evaluate.picture_benchmark import Answered
from hubq.stages.evaluate.picture_tasks.ai2d import AI2D, is_right

ROW = {"question": "Which eats grass?", "options": ["fox", "cow", "owl", "eel"], "answer": "1"}


def test_the_prompt_is_question_options_and_instruction_a_line_each() -> None:
    item = AI2D().item(Row("row 1", ROW))

    assert item.prompt == (
        "Which eats grass?\nA. fox\nB. cow\nC. owl\nD. eel\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert item.right == ("B",)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("B", True),
        ("b", True),
        ("B.", True),
        ("B. cow", True),  # the letter before the full stop
        ("(B)", True),  # punctuation does not count
        ("B) cow", False),  # no full stop: the whole text is compared
        ("cow", False),
        ("The answer is B.", False),
        ("A. B", False),
        ("", False),
    ],
)
def test_a_letter_counts_before_a_full_stop_or_alone(answer: str, right: bool) -> None:
    assert is_right(answer, "B") is right


def test_guessing_gives_the_mean_share_of_an_option() -> None:
    four = AI2D().item(Row("row 1", ROW))
    two = AI2D().item(Row("row 2", {**ROW, "options": ["fox", "cow"]}))

    (number,) = AI2D().numbers([(Answered(four, "B"),), (Answered(two, "A"),)])

    assert (number.value, number.items, number.chance) == (0.5, (1.0, 0.0), 0.375)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"answer": "4"}, "answer should be the index of one of 4 options, not '4'"),
        ({"answer": "B"}, "answer should be the index of one of 4 options, not 'B'"),
        ({"answer": True}, "answer should be a text or a whole number, not True"),
        ({"options": "fox, cow"}, "options should be a list of texts, not 'fox, cow'"),
        ({"options": ["fox", 3]}, "options should be a list of texts"),
        ({"question": ["Which?"]}, "question should be a text"),
    ],
)
def test_a_row_of_another_kind_is_refused_with_its_place(
    changed: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError, match=r"^file, row 7: ") as raised:
        AI2D().item(Row("file, row 7", {**ROW, **changed}))

    assert said in str(raised.value)


@pytest.mark.parametrize("missing", ["question", "options", "answer"])
def test_a_row_without_question_options_or_answer_is_no_item(missing: str) -> None:
    assert not AI2D().item(Row("row 1", {**ROW, missing: None})).complete


def test_an_index_that_is_a_number_is_read_too() -> None:
    assert AI2D().item(Row("row 1", {**ROW, "answer": 3})).right == ("D",)
